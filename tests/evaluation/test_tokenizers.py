import json
import math

import numpy as np
import pytest

from fmrilm.evaluation.codecs import PCACodec
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.fidelity import (
    Scans,
    connectivity_agreement,
    explained,
    skewness_agreement,
    spectrum_kept,
    split_half_ceiling,
)
from fmrilm.evaluation.tokenizers import codebook_use, site_drift

RNG = np.random.default_rng(0)


def walks(n: int = 4, rois: int = 5, points: int = 64) -> Scans:
    series = RNG.standard_normal((n, rois, points)).cumsum(2)
    return Scans(series, np.ones((n, rois), dtype=bool))


def test_more_bits_leave_less_error_and_are_all_spent():
    patches = RNG.standard_normal((4000, 8)).cumsum(1)
    errors = []
    for bits in (1, 4, 9):
        codec = PCACodec(bits).fit(patches[:2000])
        assert codec.bits_.sum() == bits
        assert (np.diff(codec.bits_) <= 0).all()  # larger components get more
        coded = codec.reconstruct(patches[2000:])
        assert len(np.unique(coded.round(6), axis=0)) <= 2**bits
        errors.append(((coded - patches[2000:]) ** 2).mean())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.15 * patches.var()


def test_what_comes_back_unchanged_is_kept_whole():
    scans = walks()
    assert explained(scans, scans.series) == 1
    assert connectivity_agreement(scans, scans.series) == pytest.approx(1)
    assert spectrum_kept(scans, scans.series) == pytest.approx([1] * 4)
    assert skewness_agreement(scans, scans.series) == pytest.approx(1)


def test_what_is_lost_shows_where_it_was():
    scans = walks()
    means = np.repeat(scans.series.mean(2, keepdims=True), 64, axis=2)
    assert explained(scans, means) == pytest.approx(0)
    smooth = np.apply_along_axis(np.convolve, 2, scans.series, np.ones(4) / 4, "same")
    kept = spectrum_kept(scans, smooth)
    assert kept[0] > 0.8
    assert kept[3] < 0.3
    wrong = scans.series.copy()
    wrong[:, 0] = 0
    regions = np.array([True, False, False, False, False])
    assert explained(scans, wrong, ~regions) == 1
    assert explained(scans, wrong, regions) <= 0


def test_masked_regions_count_nowhere():
    scans = walks()
    masks = scans.masks.copy()
    masks[:, 2] = False
    hidden = Scans(scans.series, masks)
    wrong = scans.series.copy()
    wrong[:, 2] = 100.0
    assert explained(hidden, wrong) == 1
    assert connectivity_agreement(hidden, wrong) == pytest.approx(1)


def test_noise_agrees_with_itself_less_than_signal():
    shared = RNG.standard_normal((3, 1, 200)) * np.linspace(-1, 1, 10)[None, :, None]
    masks = np.ones((3, 10), dtype=bool)
    noise = RNG.standard_normal((3, 10, 200))
    assert split_half_ceiling(Scans(noise, masks)) < 0.4
    assert split_half_ceiling(Scans(3 * shared + noise, masks)) > 0.8


def test_codebook_use_counts():
    used = codebook_use(np.array([0, 0, 1, 1, 5, 5]), 8)
    assert used["usage"] == 3 / 8
    assert used["dead_codes"] == 5
    assert used["perplexity"] == pytest.approx(3)


def test_sites_that_use_other_codes_drift_apart_and_alike_ones_do_not():
    sites = np.array(["a", "b"]).repeat(10)
    alike = [RNG.integers(0, 8, 200) for _ in sites]
    apart = [one + 2 * (site == "b") for one, site in zip(alike, sites, strict=True)]
    found = site_drift(apart, sites)
    assert found["divergence"] > 5 * found["by_chance"]
    assert found["p"] < 0.05
    assert site_drift([one + 100 * (s == "b") for one, s in zip(alike, sites, strict=True)], sites)[
        "divergence"
    ] == pytest.approx(1)  # no code in common: one bit tells the site
    assert site_drift(alike, sites)["p"] > 0.05
    assert site_drift(alike, np.full(20, "a")) is None


def test_a_tokenizer_run_is_scored_beside_pca(runs, capsys):
    evaluate([str(runs["tokenizer"])], split="val")
    content = json.loads((runs["tokenizer"] / "evaluation/tokenizer.json").read_text())
    (result,) = content["results"]
    assert result["bits_per_scan"] == 24 * math.log2(32)
    assert result["pca_bits_per_scan"] == result["bits_per_scan"]
    assert set(result["tokenizer"]["r2_by_network"]) == {"Vis", "Default", "SomMot"}
    assert result["pca"]["r2"] > 0.2
    assert set(result["site_drift"]) == {"divergence", "by_chance", "p"}
    printed = capsys.readouterr().out
    for words in ("PCA, equal bits", "codes differ between sites", "own description among"):
        assert words in printed


def test_looking_at_the_test_scans_is_noted_in_the_run_folder(runs):
    log = runs["tokenizer"] / "test_readings.jsonl"
    before = len(log.read_text().splitlines()) if log.is_file() else 0
    evaluate([str(runs["tokenizer"])], split="val")
    assert (len(log.read_text().splitlines()) if log.is_file() else 0) == before
    evaluate([str(runs["tokenizer"])], split="test")
    assert json.loads(log.read_text().splitlines()[-1])["asked"] == ["test:reconstruction"]
