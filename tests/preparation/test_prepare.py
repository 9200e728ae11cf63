import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fmrilm.atlases.atlas import Atlas
from fmrilm.cohort.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.preparation.prepare import prepare
from fmrilm.signals.resample import resample


@pytest.fixture(scope="module")
def study(make_study, tmp_path_factory):
    """Return the folder of a study of 24 subjects (30 scans) and its true series."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    return folder, make_study(folder, subjects=24)


def _settings(folder: Path, *more: str) -> list[str]:
    return [
        f"atlas={folder}/atlas.tsv",
        f"atlas_image={folder}/atlas.nii.gz",
        "n_timepoints=40",
        "strategy=none",  # the confounds are noise: what was painted is to come back
        *more,
    ]


def _prepare(folder: Path, output: Path, *more: str, **options) -> int:
    scans = folder / "derivatives" / "fmriprep"
    return prepare(str(scans), _settings(folder, *more), output=str(output), **options)


@pytest.fixture(scope="module")
def prepared(study, tmp_path_factory):
    """Return a cohort folder that was prepared without interruption."""
    output = tmp_path_factory.mktemp("prepared") / "cohort"
    assert _prepare(study[0], output) == 0
    return output


def assert_same_cohort(first: Path, second: Path) -> None:
    one, two = Cohort(first), Cohort(second)
    assert one.table.equals(two.table)
    assert one.store.subjects == two.store.subjects
    assert one.store.sessions == two.store.sessions
    for index in range(len(one)):
        np.testing.assert_array_equal(one.store.raw(index), two.store.raw(index))
    np.testing.assert_array_equal(one.store.extra("coverage"), two.store.extra("coverage"))
    for name in ("participants.tsv", "splits.tsv", "samples.tsv", "atlas.tsv"):
        assert (first / name).read_text() == (second / name).read_text()


def test_the_series_that_were_painted_come_back(study, prepared):
    cohort = Cohort(prepared)
    truth = study[1]
    assert len(cohort) == len(truth) == 30
    keys = zip(cohort.store.subjects, cohort.store.sessions, strict=True)
    for index, (subject, session) in enumerate(keys):
        wanted = resample(truth[subject, session.removesuffix("_task-rest")], 0.8, 2.0)[:, :40]
        found = cohort.store.raw(index)
        for row in range(len(found)):
            assert np.corrcoef(found[row], wanted[row])[0, 1] > 0.99
    assert cohort.store.t_r == 2.0
    assert cohort.atlas == Atlas.read(study[0] / "atlas.tsv")


def test_a_cohort_folder_has_all_that_the_next_jobs_read(prepared):
    cohort = Cohort(prepared)
    assert set(cohort.table["split"]) == {"train", "val", "test"}
    assert set(cohort.labels("sex")) == {"F", "M"}
    assert cohort.labels("mean_fd").between(0.05, 0.3).all()
    assert not (prepared / "failures.tsv").exists()
    assert not (prepared / "parts").exists()
    scans = pd.read_csv(prepared / "scans.tsv", sep="\t")
    assert (scans["volumes"] == 120).all()
    assert (scans["t_r"] == 0.8).all()
    page = (prepared / "qc.html").read_text()
    assert page.count('class="scan') >= 30
    assert "http" not in page


def test_killed_ten_times_the_result_is_that_of_an_uninterrupted_run(study, prepared, tmp_path):
    output, rng = tmp_path / "cohort", np.random.default_rng(0)
    fork = multiprocessing.get_context("fork")
    survived = 0
    for _ in range(10):
        process = fork.Process(target=_prepare, args=(study[0], output))
        process.start()
        time.sleep(rng.uniform(0.02, 0.3))
        survived += process.exitcode is not None
        process.kill()  # does nothing to one that has ended, whose number may be another's by now
        process.join()
    assert survived < 5  # most were really interrupted
    assert _prepare(study[0], output) == 0
    assert_same_cohort(output, prepared)


def test_killed_while_the_store_is_written_the_old_store_stays(
    study, prepared, tmp_path, monkeypatch
):
    import fmrilm.cohort.store as store_module

    def power_cut(*_):
        raise SystemExit("power cut")

    monkeypatch.setattr(store_module.os, "replace", power_cut)
    # the parts use os.replace as well, so the very first one is cut
    with pytest.raises(SystemExit):
        _prepare(study[0], tmp_path / "cohort")
    monkeypatch.undo()
    assert _prepare(study[0], tmp_path / "cohort") == 0
    assert_same_cohort(tmp_path / "cohort", prepared)


@pytest.mark.parametrize("table", range(4))  # scans, samples, splits, participants
def test_killed_while_a_table_is_written_the_old_table_stays(
    study, prepared, tmp_path, monkeypatch, table
):
    output, calls = tmp_path / "cohort", []
    assert _prepare(study[0], output) == 0

    def power_cut(self, path, *_, **__):
        Path(path).write_text("")  # opened for writing, nothing written yet
        calls.append(path)
        if len(calls) > table:
            raise SystemExit("power cut")
        return to_csv(self, path, *_, **__)

    to_csv = pd.DataFrame.to_csv
    monkeypatch.setattr(pd.DataFrame, "to_csv", power_cut)
    with pytest.raises(SystemExit):
        _prepare(study[0], output)
    monkeypatch.undo()
    assert _prepare(study[0], output) == 0
    assert_same_cohort(output, prepared)


def test_two_processes_give_the_same_as_one(study, prepared, tmp_path):
    assert _prepare(study[0], tmp_path / "cohort", jobs=2) == 0
    assert_same_cohort(tmp_path / "cohort", prepared)


def test_two_dask_workers_give_the_same_as_one_process(study, prepared, tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs fmrilm[cluster]")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
    ) as cluster:
        code = _prepare(study[0], tmp_path / "cohort", scheduler=cluster.scheduler_address)
    assert code == 0
    assert_same_cohort(tmp_path / "cohort", prepared)


def test_a_slurm_job_script_asks_for_what_was_said(tmp_path):
    pytest.importorskip("dask_jobqueue", reason="needs fmrilm[cluster]")
    from fmrilm.jobs import _slurm_cluster

    with _slurm_cluster("queue=cpu,memory=4GB,walltime=00:30:00", 0) as cluster:
        script = cluster.job_script()
    assert "#SBATCH -p cpu" in script
    assert "00:30:00" in script
    with pytest.raises(InputError, match="key=value"):
        _slurm_cluster("cpu", 1)


def test_new_scans_are_added_and_finished_ones_not_done_again(make_study, tmp_path, monkeypatch):
    import fmrilm.preparation.prepare as module

    folder, output = tmp_path / "study", tmp_path / "cohort"
    make_study(folder, subjects=12, volumes=110)
    hidden = tmp_path / "later"
    (folder / "derivatives/fmriprep/sub-12").rename(hidden)
    assert _prepare(folder, output) == 0
    splits = (output / "splits.tsv").read_text()
    done = []
    original = module.prepare_scan
    monkeypatch.setattr(
        module, "prepare_scan", lambda scan, *rest: done.append(scan) or original(scan, *rest)
    )
    hidden.rename(folder / "derivatives/fmriprep/sub-12")
    assert _prepare(folder, output) == 0
    assert {scan.subject for scan in done} == {"sub-12"}
    assert (output / "splits.tsv").read_text().startswith(splits)
    assert Cohort(output).table.set_index("subject_id").loc["sub-12", "sex"].tolist() == ["F"] * 2
    done.clear()
    before = (output / "data_resampled.h5").stat().st_mtime_ns
    assert _prepare(folder, output) == 0
    assert not done
    assert (output / "data_resampled.h5").stat().st_mtime_ns == before
    assert _prepare(folder, output, "low_pass=0.1") == 0  # another setting: all again
    assert len(done) == 15


def test_a_bad_scan_is_skipped_with_its_reason_and_exit_code_3(make_study, tmp_path):
    folder, output = tmp_path / "study", tmp_path / "cohort"
    make_study(folder, subjects=14, volumes=110)
    scans = folder / "derivatives" / "fmriprep"
    short, broken = (sorted(scans.glob(f"sub-{n}/*/*/*bold.nii.gz"))[0] for n in ("01", "03"))
    import nibabel

    nibabel.save(nibabel.load(short).slicer[..., :60], tmp_path / "short.nii.gz")
    (tmp_path / "short.nii.gz").replace(short)
    confounds = next(short.parent.glob("*confounds_timeseries.tsv"))
    confounds.write_text("\n".join(confounds.read_text().splitlines()[:61]) + "\n")
    broken.write_bytes(broken.read_bytes()[:5000])
    command = [sys.executable, "-m", "fmrilm", "prepare", str(scans), *_settings(folder)]
    result = subprocess.run(
        [*command, "--output", str(output)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == 3, result.stderr
    failures = pd.read_csv(output / "failures.tsv", sep="\t").set_index("participant_id")
    assert list(failures.index) == ["sub-01", "sub-03"]
    assert "24 time points after resampling, fewer than 40" in failures.loc["sub-01", "reason"]
    assert "damaged" in failures.loc["sub-03", "reason"]
    assert Cohort(output).table["subject_id"].nunique() == 12
    assert _prepare(folder, output, "length=pad") == 3  # the short one is kept, masked later
    cohort = Cohort(output)
    assert cohort.store.shape(cohort.store.subjects.index("sub-01")) == (24, 24)


def test_windows_become_samples_of_their_subject(study, tmp_path):
    assert _prepare(study[0], tmp_path / "cohort", "length=windows", "n_timepoints=20") == 0
    cohort = Cohort(tmp_path / "cohort")
    assert len(cohort) == 60
    assert cohort.store.sessions[:2] == ["ses-1_task-rest_win-01", "ses-1_task-rest_win-02"]


def test_cleaning_is_done_and_recorded(study, prepared, tmp_path):
    pytest.importorskip("nilearn", reason="needs fmrilm[imaging]")
    more = ("strategy=simple", "high_pass=0.01", "low_pass=0.1")
    assert _prepare(study[0], tmp_path / "cohort", *more) == 0
    cleaned, plain = Cohort(tmp_path / "cohort").store, Cohort(prepared).store
    assert np.corrcoef(cleaned.raw(0)[0], plain.raw(0)[0])[0, 1] < 0.97
    assert "strategy='simple'" in cleaned.extra("preparation")


@pytest.mark.parametrize("strategy", ["scrubbing", "compcor"])
def test_the_made_up_study_has_what_each_strategy_needs(study, tmp_path, strategy):
    pytest.importorskip("nilearn", reason="needs fmrilm[imaging]")
    assert _prepare(study[0], tmp_path / "cohort", f"strategy={strategy}") == 0
    store = Cohort(tmp_path / "cohort").store
    censored = [bool(store.censored(index).any()) for index in range(len(store))]
    assert all(censored) if strategy == "scrubbing" else not any(censored)


def test_wrong_requests_are_refused_in_one_sentence(study, tmp_path):
    folder = study[0]
    for more, message in (
        (["legnth=pad"], "did you mean 'length'"),
        (["length=stretch"], "length is 'stretch'"),
        (["strategy=compcorr"], "did you mean 'compcor'"),
        (["n_timepoints=many"], "n_timepoints"),
        (["t_r=2000"], r"t_r 2000 s is outside 0.2 to 10 s \(2000 ms\?\)"),
        (["target_t_r=0.05"], "target_t_r 0.05 s is outside"),
        (["dummy_scans=some"], "use auto or a number"),
        (["strategy=auto", "confounds.motoin=full"], "did you mean 'motion'"),
        (["strategy=auto", "confounds.motion=ful"], "did you mean 'full'"),
        (["strategy=auto", "confounds.fd_threshold=low"], "give a number"),
    ):
        with pytest.raises(InputError, match=message):
            _prepare(folder, tmp_path / "x", *more)
    with pytest.raises(InputError, match="unknown cohort 'UKBB'"):
        _prepare(folder, tmp_path / "x", cohort="UKBB")
    with pytest.raises(InputError, match="none of the 30 scans"):
        _prepare(folder, tmp_path / "x", "n_timepoints=400")


def test_the_450_regions_come_back_through_the_real_label_image(tmp_path, monkeypatch):
    """Painted through Schaefer-400 and Tian S3 at 3 mm, with noise in every voxel."""
    nib = pytest.importorskip("nibabel", reason="needs fmrilm[imaging]")
    from fmrilm.atlases.build import build_atlas
    from fmrilm.preparation.sources.parcellate import _labels_on_grid, file_state

    monkeypatch.setenv("FMRILM_CACHE", str(tmp_path / "cache"))
    try:
        image = build_atlas()
    except InputError as error:
        pytest.skip(f"{error} (demo-requirements.txt)")
    rng = np.random.default_rng(0)
    matrix = np.diag([-3.0, 3.0, 3.0, 1.0])
    matrix[:3, 3] = [90, -126, -72]
    shape = (61, 73, 61)
    grid = _labels_on_grid(file_state(image), shape, matrix.tobytes())
    truth = 1000 + 20 * rng.standard_normal((450, 30)).astype(np.float32)
    scan = 500 + 5 * rng.standard_normal((*shape, 30), dtype=np.float32)
    scan[grid > 0] += truth[grid[grid > 0] - 1] - 500
    nifti = nib.Nifti1Image(scan.astype(np.int16), matrix)
    nifti.header.set_zooms((3, 3, 3, 2.0))
    nifti.header.set_xyzt_units("mm", "sec")
    for number in range(10):
        folder = tmp_path / "fmriprep" / f"sub-{number:02d}" / "func"
        folder.mkdir(parents=True)
        name = f"sub-{number:02d}_task-rest_space-MNI152NLin6Asym_desc-preproc_bold.nii"
        if number == 0:
            nib.save(nifti, folder / name)
            first = folder / name
        else:
            (folder / name).symlink_to(first)
    code = prepare(str(tmp_path / "fmriprep"), ["n_timepoints=30"], output=str(tmp_path / "cohort"))
    assert code == 0
    cohort = Cohort(tmp_path / "cohort")
    assert cohort.store.roi_ids == list(Atlas.load("schaefer400_tianS3").labels)
    found = cohort.store.raw(0)
    r = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(found, truth, strict=True)])
    assert r.min() > 0.99
    assert cohort.store.extra("coverage").min() > 0.99


def test_a_label_image_that_is_made_anew_at_its_place_is_read_anew(tmp_path):
    import nibabel

    from fmrilm.preparation.sources.parcellate import parcellate_nifti

    atlas = Atlas("two", ("1", "2"), ("a", "b"), ("A", "B"), ("", ""), np.full((2, 3), np.nan))
    values = np.zeros((2, 2, 2, 9), np.float32)
    values[0], values[1] = np.arange(9), -np.arange(9)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "scan.nii.gz")
    labels = np.ones((2, 2, 2), np.int16)
    labels[1] = 2
    series = []
    for current in (labels, 3 - labels):
        nibabel.save(nibabel.Nifti1Image(current, np.eye(4)), tmp_path / "labels.nii.gz")
        found = parcellate_nifti(tmp_path / "scan.nii.gz", atlas, tmp_path / "labels.nii.gz")
        series.append(found.series)
    np.testing.assert_array_equal(series[0], series[1][::-1])
