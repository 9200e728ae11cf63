"""`fmrilm describe`: train-only, joined by id, resumable, friendly."""

import re

import numpy as np
import pandas as pd
import pytest

from descriptors.builders import NETWORKS, make_scans
from fmrilm import cli
from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.store import write_store
from fmrilm.description import measure as measuring
from fmrilm.description import reword as rewording
from fmrilm.description.describe import describe
from fmrilm.descriptors import Connectivity
from fmrilm.errors import InputError
from small import edited_store, make_cohort


@pytest.fixture
def folder(tmp_path):
    scans = make_scans(20, n_timepoints=80)
    scans[7][3] = np.nan
    samples = [(f"sub{i:02d}", "1", scan) for i, scan in enumerate(scans)]
    store = tmp_path / "data_resampled.h5"
    ids = [str(i) for i in range(len(NETWORKS))]
    write_store(store, samples, t_r=2.0, atlas="test", roi_ids=ids, source="made in a test")
    subjects = [f"sub{i:02d}" for i in range(20)]
    pd.DataFrame({"participant_id": subjects}).to_csv(
        tmp_path / "participants.tsv", sep="\t", index=False
    )
    atlas = pd.DataFrame({"label": ids, "name": ids, "network": NETWORKS})
    atlas = atlas.assign(hemisphere="L", x=0.0, y=0.0, z=0.0)
    atlas.to_csv(tmp_path / "atlas.tsv", sep="\t", index=False)
    return tmp_path


def read(folder, family="fc"):
    path = folder / "descriptors_rewritten" / f"{family}_descriptors.csv"
    return pd.read_csv(path, dtype={"subject_id": str, "session_id": str})


def test_every_scan_gets_measures_z_and_summary(folder):
    describe(folder, types="fc,activation", jobs=1)
    for family in ("fc", "activation"):
        table = read(folder, family)
        assert list(table["subject_id"]) == [f"sub{i:02d}" for i in range(20)]
        measures = [name[:-2] for name in table if name.endswith("_z")]
        assert measures
        assert set(measures) < set(table.columns)
        assert table["summary"].str.len().min() > 40
    assert "29 of 30 regions" in read(folder)["summary"][7]
    joined = Cohort(folder).descriptions(["fc", "activation"])
    assert joined[7].startswith(read(folder)["summary"][7])


def test_z_is_learned_from_the_training_scans_only(folder):
    describe(folder, jobs=1)
    table = read(folder)
    train = (Cohort(folder).table["split"] == "train").to_numpy()
    z = table.loc[train, "fc__Vis__Default_z"]
    assert z.mean() == pytest.approx(0, abs=1e-8)
    assert z.std() == pytest.approx(1)
    assert abs(table["fc__Vis__Default_z"].mean()) > 1e-6


def test_an_interrupted_run_goes_on_and_ends_the_same(folder, monkeypatch):
    monkeypatch.setattr(measuring, "CHUNK", 6)
    describe(folder, jobs=1)
    expected = read(folder)
    real, calls = measuring._measure_chunk, []

    def fail_at_the_third(scans, descriptor, path):
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(scans, descriptor, path)

    monkeypatch.setattr(measuring, "_measure_chunk", fail_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        describe(folder, jobs=1, refresh=True)
    calls.clear()
    monkeypatch.setattr(measuring, "_measure_chunk", lambda *a: (calls.append(a), real(*a))[1])
    describe(folder, jobs=1, seed=0, refresh=False)
    # The old table is complete for this key, so nothing is made again until it is gone.
    assert not calls
    for path in (folder / "descriptors_rewritten").glob("fc_*"):
        path.unlink()
    describe(folder, jobs=1)
    assert len(calls) == 2
    pd.testing.assert_frame_equal(read(folder), expected)


def test_a_complete_family_is_not_made_again(folder, capsys):
    describe(folder, jobs=1)
    stamp = (folder / "descriptors_rewritten/fc_descriptors.csv").stat().st_mtime_ns
    describe(folder, jobs=1)
    assert "nothing to do" in capsys.readouterr().out
    assert (folder / "descriptors_rewritten/fc_descriptors.csv").stat().st_mtime_ns == stamp


def test_two_workers_write_the_same_table(folder, monkeypatch):
    monkeypatch.setattr(measuring, "CHUNK", 6)
    describe(folder, jobs=1)
    expected = read(folder)
    describe(folder, jobs=2, refresh=True)
    pd.testing.assert_frame_equal(read(folder), expected)


def test_paraphrases_are_further_columns(folder):
    describe(folder, jobs=1, paraphrases=3)
    table = read(folder)
    assert (table["summary"] != table["summary_2"]).mean() > 0.9
    assert (table["summary_3"] != table["summary_2"]).mean() > 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name one cohort folder"),
        (["{folder}", "--data", "{folder}"], "name one cohort folder"),
        (["nowhere"], "not found"),
        (["{folder}", "--types", "fcc"], "did you mean 'fc'"),
        (["{folder}", "--types", ""], "--types is empty"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(folder, capsys, arguments, message):
    words = ["describe", *(word.format(folder=folder) for word in arguments)]
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_the_option_data_names_the_folder_too(folder):
    with pytest.raises(SystemExit) as ended:
        cli.main(["describe", "--data", str(folder), "--types", "fc", "--jobs", "1"])
    assert ended.value.code == 0
    assert len(read(folder)) == 20


def test_an_atlas_without_networks_is_refused(folder, capsys):
    (folder / "atlas.tsv").unlink()
    with pytest.raises(SystemExit) as ended:
        cli.main(["describe", str(folder)])
    assert ended.value.code == 2
    assert "has no networks" in capsys.readouterr().err


def test_the_gallery_is_one_file_with_figures_and_ticked_sentences(folder):
    describe(folder, types="fc,gradient,graph,ica,dynamics,regions", jobs=1, gallery=1)
    page = (folder / "descriptors_rewritten/gallery.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 6
    assert 'class="sentence false"' not in page
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert "z = " in page


def test_a_rewriter_is_asked_once_per_text_and_bad_wordings_are_not_used(folder, monkeypatch):
    asked = []

    def reword(text):
        asked.append(text)
        return text.replace("markedly", "somewhat")

    monkeypatch.setattr(rewording, "make_rewriter", lambda name: reword)
    describe(folder, jobs=1, rewriter="any", gallery=0)
    table = read(folder)
    strong = table["summary_template"].str.contains("markedly")
    assert strong.any()
    assert (table["summary"] == table["summary_template"]).all()
    assert set(asked) == set(table["summary_template"])


def test_a_rewriter_address_needs_a_model():
    with pytest.raises(InputError, match="behind a #"):
        rewording.make_rewriter("http://localhost:8000/v1")


def test_a_reference_describes_new_scans_as_the_table_does(folder):
    describe(folder, jobs=1, gallery=0)
    with np.load(folder / "descriptors_rewritten/fc_reference.npz") as state:
        family = Connectivity(NETWORKS).set_state(dict(state))
    row = read(folder).iloc[3]
    scan = Cohort(folder).read(3)[0]
    z = family.z_scores(family.transform([scan])).iloc[0]
    assert z["fc__Vis__Default_z"] == pytest.approx(row["fc__Vis__Default_z"])


def test_spectral_measures_are_withheld_where_the_store_was_filtered(tmp_path, capsys):
    folder = make_cohort(tmp_path / "c", subjects=20, points=40)
    with edited_store(folder) as handle:
        handle["metadata/preparation"] = "PrepareSettings(high_pass=None, low_pass=0.1, t_r=None)"
    describe(folder, types="ica,regions", gallery=0, jobs=1)
    assert "spectral measures withheld: the series were filtered" in capsys.readouterr().out
    for family, name in (("ica", "ica_falff"), ("regions", "region_falff")):
        table = pd.read_csv(folder / f"descriptors_rewritten/{family}_descriptors.csv")
        assert table.filter(regex=f"^{name}").isna().all(axis=None)
        assert not table["summary"].str.contains("fALFF|low-frequency").any()
        assert table["summary"].str.contains("z = ").all()
