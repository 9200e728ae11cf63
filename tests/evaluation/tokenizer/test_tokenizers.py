import json
import math

import numpy as np
import pytest

from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.tokenizer.codecs import PCACodec
from fmrilm.evaluation.tokenizer.fidelity import (
    Scans,
    connectivity_agreement,
    explained,
    skewness_agreement,
    spectrum_kept,
    split_half_ceiling,
)
from fmrilm.evaluation.tokenizer.report import codebook_use, site_drift

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


def test_looking_at_the_test_scans_is_noted_in_the_cohort_folder(runs, cohort_folder):
    log = cohort_folder / "test_readings.jsonl"
    before = len(log.read_text().splitlines()) if log.is_file() else 0
    evaluate([str(runs["tokenizer"])], split="val")
    assert (len(log.read_text().splitlines()) if log.is_file() else 0) == before
    evaluate([str(runs["tokenizer"])], split="test")
    assert json.loads(log.read_text().splitlines()[-1])["tasks"] == ["reconstruction"]
    content = json.loads((runs["tokenizer"] / "evaluation/tokenizer.json").read_text())
    assert content["results"][0]["readings"]["mark"] == "untouched"  # by another run


def test_padding_changes_no_score():
    scans = walks(points=48)
    coded = scans.series + RNG.standard_normal(scans.series.shape)
    padded = Scans(
        *(np.pad(x, ((0, 0), (0, 0), (0, 16))) for x in (scans.series,)),
        scans.masks,
        np.tile(np.arange(64) < 48, (4, 1)),
    )
    noisy = np.pad(coded, ((0, 0), (0, 0), (0, 16)), constant_values=9.0)
    for score in (explained, connectivity_agreement, spectrum_kept, skewness_agreement):
        assert score(padded, noisy) == pytest.approx(score(scans, coded))
    assert split_half_ceiling(padded) == pytest.approx(split_half_ceiling(scans))
    assert np.array_equal(padded.patches(16), scans.patches(16))
    assert padded.patches(32).shape == (4 * 5 * 2, 32)  # a patch that is partly measured counts
    assert padded.model_masks.sum() == 4 * 5 * 48


def test_a_tokenizer_trained_on_padded_scans_is_scored(tmp_path):
    from fmrilm.training.build import train_stage
    from small import TINY_MODEL, make_cohort

    folder = make_cohort(tmp_path / "cohort", subjects=20, points=16)  # the model reads 20
    options = [*TINY_MODEL, f"data.dataset_dir=[{folder}]", "train.epochs=1"]
    options += ["data.length=pad", "tokenizer.clip_weight=0"]
    tok = train_stage("tokenizer", options, output=tmp_path / "tok")
    evaluate([str(tok)], split="val")
    [result] = json.loads((tok / "evaluation/tokenizer.json").read_text())["results"]
    assert 0 < result["pca"]["r2"] <= 1
    assert result["tokenizer"]["r2"] < 1
    assert -1 <= result["split_half_fc"] <= 1
