"""`fmrilm describe`: train-only, joined by id, resumable, friendly."""

import numpy as np
import pandas as pd
import pytest

from descriptors.builders import NETWORKS, make_scans
from fmrilm import cli
from fmrilm.data import describe as module
from fmrilm.data.cohort import Cohort
from fmrilm.data.describe import describe
from fmrilm.data.store import write_store


@pytest.fixture
def folder(tmp_path):
    scans = make_scans(20, n_timepoints=40)
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
    monkeypatch.setattr(module, "CHUNK", 6)
    describe(folder, jobs=1)
    expected = read(folder)
    real, calls = module._measure_chunk, []

    def fail_at_the_third(scans, descriptor, path):
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(scans, descriptor, path)

    monkeypatch.setattr(module, "_measure_chunk", fail_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        describe(folder, jobs=1, refresh=True)
    calls.clear()
    monkeypatch.setattr(module, "_measure_chunk", lambda *a: (calls.append(a), real(*a))[1])
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
    monkeypatch.setattr(module, "CHUNK", 6)
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
        ([], "say which cohort"),
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
