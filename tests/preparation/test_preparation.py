"""Derivatives as fMRIPrep and XCP-D write them, from the folder to the cohort."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

pytest.importorskip("nibabel", reason="needs fmrilm[imaging]")
pytest.importorskip("nilearn", reason="needs fmrilm[imaging]")

from fmrilm.checks.doctor import examine_cohort
from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.reader import ScanReader
from fmrilm.description.measure import Scans
from fmrilm.errors import InputError
from fmrilm.preparation.prepare import prepare
from fmrilm.preparation.quality.measures import connectivity
from fmrilm.preparation.quality.page import write_qc
from preparation_trees import (
    FMRIPREP,
    draw_series,
    write_atlas,
    write_description,
    write_fmriprep,
    write_image,
    write_xcpd,
)

LENGTH = 40


@pytest.fixture(autouse=True)
def without_page(monkeypatch):
    """Leave out qc.html, the dearest part; the test that reads it writes it."""
    monkeypatch.setattr("fmrilm.preparation.quality.page.write_qc", lambda *_: None)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    return write_atlas(tmp_path_factory.mktemp("atlas"))


@pytest.fixture(scope="module", params=list(FMRIPREP))
def fmriprep(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("tree") / f"fmriprep-{request.param}"
    write_fmriprep(root, request.param)
    return request.param, root


@pytest.fixture(scope="module")
def newest(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree") / "fmriprep"
    write_fmriprep(root, "25.1.0")
    return root


def _prepare(root, output, atlas, *more):
    return prepare(str(root), [*atlas, f"n_timepoints={LENGTH}", *more], output=str(output))


def _scans(folder):
    return pd.read_csv(folder / "scans.tsv", sep="\t", keep_default_na=False)


def _mean_fc(cohort):
    return np.mean([np.nanmean(connectivity(cohort, index)) for index in range(len(cohort))])


@pytest.mark.parametrize("strategy", ["auto", "none"])
def test_dummy_scans_are_dropped_whatever_is_regressed(fmriprep, atlas, tmp_path, strategy):
    version, root = fmriprep
    assert _prepare(root, tmp_path, atlas, f"strategy={strategy}") == 0
    scans, cohort = _scans(tmp_path), Cohort(tmp_path)
    assert (scans["dummy_scans"] == 4).all()
    assert scans["notes"].str.contains("4 dummy scans dropped (marked by fMRIPrep)",
                                       regex=False).all()  # fmt: skip
    assert scans["notes"].str.contains("2009cAsym, atlas in MNI152NLin6Asym").all() == (
        version == "20.1.3"
    )
    assert abs(_mean_fc(cohort)) < 0.1
    assert set(cohort.store.sessions) == {FMRIPREP[version][0]}
    assert cohort.labels("mean_fd").between(0.1, 0.2).all()
    codes = [finding.code for finding in examine_cohort(tmp_path, n_timepoints=LENGTH)]
    if strategy == "none":
        assert set(scans["strategy"]) == {"none"}
        assert "not_denoised" in codes
        for index in range(len(cohort)):
            np.testing.assert_allclose(
                cohort.store.raw(index), draw_series(index + 1, 64)[:, 4:44], rtol=1e-5
            )
    else:
        assert set(scans["strategy"]) == {"simple"}
        assert set(scans["regressed"]) == {"24 motion, 2 white matter and CSF, 2 cosine drift"}
        assert "not_denoised" not in codes
    assert "dummy_scans" not in codes


def test_the_page_says_what_was_removed_and_what_motion_left(newest, atlas, tmp_path):
    _prepare(newest, tmp_path, atlas, "strategy=scrubbing", "confounds.scrub=0")
    write_qc(Cohort(tmp_path), tmp_path / "qc.html")
    page = (tmp_path / "qc.html").read_text()
    for text in (
        "Dummy scans dropped: 4 in 10 samples",
        "Regressed from 10 samples: scrubbing: 24 motion, 8 white matter and CSF, 2 cosine drift",
        "Censored: 5 samples, on average 5% of their time points",
        "10 samples, 28 edges: median |r| with mean FD",
    ):
        assert text in page
    _prepare(newest, tmp_path, atlas, "strategy=none")
    write_qc(Cohort(tmp_path), tmp_path / "qc.html")
    assert "Nothing was regressed from 10 samples" in (tmp_path / "qc.html").read_text()


def test_kept_dummy_scans_are_found_by_doctor_and_audit(newest, atlas, tmp_path):
    from fmrilm.checks.preparation import check_dummy_scans

    _prepare(newest, tmp_path, atlas, "strategy=none", "dummy_scans=0")
    assert _mean_fc(Cohort(tmp_path)) > 0.5
    assert "dummy_scans" in [f.code for f in examine_cohort(tmp_path, n_timepoints=LENGTH)]
    assert [f.code for f in check_dummy_scans(Cohort(tmp_path))] == ["dummy_scans"]
    _prepare(newest, tmp_path, atlas, "strategy=none", "dummy_scans=6")
    assert set(_scans(tmp_path)["dummy_scans"]) == {6}


def test_36_parameters_compcor_and_named_columns(newest, atlas, tmp_path):
    more = ("confounds.wm_csf=full", "confounds.global_signal=full")
    _prepare(newest, tmp_path / "36P", atlas, "strategy=simple", "n_timepoints=20", *more)
    assert set(_scans(tmp_path / "36P")["regressed"]) == {
        "24 motion, 8 white matter and CSF, 4 global signal, 2 cosine drift"
    }
    more = ("confounds.n_compcor=1", "confounds.motion=basic")
    _prepare(newest, tmp_path / "compcor", atlas, "strategy=compcor", *more)
    assert set(_scans(tmp_path / "compcor")["regressed"]) == {"6 motion, 2 cosine drift, 1 CompCor"}
    columns = "confounds.columns=[csf,trans_*_derivative1]"
    _prepare(newest, tmp_path / "named", atlas, "strategy=custom", columns)
    assert set(_scans(tmp_path / "named")["regressed"]) == {"3 motion, 1 white matter and CSF"}
    with pytest.raises(InputError, match=r"has no column 'csv'.*did you mean 'csf'"):
        _prepare(newest, tmp_path / "x", atlas, "strategy=custom", "confounds.columns=[csv]")


def test_the_presets_are_those_of_nilearn(newest):
    from nilearn.interfaces.fmriprep import load_confounds_strategy

    from fmrilm.preparation.denoising.regressors import (
        choose_regressors,
        read_confounds,
        select_regressors,
    )

    path = newest / "sub-02/func/sub-02_task-rest_part-mag_desc-confounds_timeseries.tsv"
    image = path.with_name(
        "sub-02_task-rest_part-mag_space-MNI152NLin6Asym_res-2_desc-preproc_bold.nii.gz"
    )
    for name in ("simple", "scrubbing", "compcor"):
        wanted, kept = load_confounds_strategy(str(image), name)
        table, mask = select_regressors(
            image, path, read_confounds(path, 64), choose_regressors(name, {})
        )
        pd.testing.assert_frame_equal(table, wanted)
        np.testing.assert_array_equal(np.flatnonzero(mask), kept)


def test_censored_volumes_are_masked_in_the_store_the_features_and_the_model(
    newest, atlas, tmp_path
):
    from fmrilm.evaluation.baselines.features import extract

    assert _prepare(newest, tmp_path, atlas, "strategy=scrubbing", "confounds.scrub=0") == 0
    cohort = Cohort(tmp_path)
    moved = cohort.store.subjects.index("sub-01")
    assert np.flatnonzero(cohort.censored(moved)).tolist() == [16, 36]  # four dummies before
    assert not cohort.censored(cohort.store.subjects.index("sub-02")).any()
    assert _scans(tmp_path)["censored"].tolist() == [2, 0] * 5
    reader = ScanReader(cohort, LENGTH)
    fmri, mask = reader.batch(range(10))
    assert mask.shape == (10, 8, LENGTH)
    assert mask[moved].sum() == 8 * (LENGTH - 2)
    assert (fmri[~mask] == 0).all()
    masked = Scans(cohort, [moved])[0]
    assert masked.shape == (8, LENGTH)
    assert np.flatnonzero(np.ma.getmaskarray(masked).all(axis=0)).tolist() == [16, 36]
    found = extract(cohort, np.array([moved]), LENGTH, ["fc", "series", "values"])
    values, _ = cohort.read(moved)
    kept = ~cohort.censored(moved)
    z = np.arctanh(np.corrcoef(values[:, kept])[np.triu_indices(8, 1)])
    np.testing.assert_allclose(found["fc"][0], z, atol=1e-4)
    assert (found["series"][0][:, ~kept] == 0).all()
    assert np.isnan(found["values"][0].reshape(8, LENGTH)[:, ~kept]).all()
    other = shutil.copytree(tmp_path, tmp_path / "other")
    with h5py.File(other / "data_resampled.h5", "r+") as handle:
        handle["metadata/censored"][...] = False
    assert Cohort(other).fingerprints()["scans"] != cohort.fingerprints()["scans"]


def test_the_model_does_not_see_what_stands_in_a_censored_place(newest, atlas, tmp_path):
    import torch

    from fmrilm.config.schema import TokenizerConfig
    from fmrilm.tokenizer.tokenizer import FMRITokenizer

    _prepare(newest, tmp_path, atlas, "strategy=scrubbing", "confounds.scrub=0")
    fmri, mask = ScanReader(Cohort(tmp_path), LENGTH).batch([0, 1])
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "codebook_size": 8, "code_dim": 4}
    config = TokenizerConfig(
        num_rois=8, num_timestamp=LENGTH, patch_size=20, enc_cls="vit_tiny", **sizes
    )
    model = FMRITokenizer(config).eval()
    with torch.inference_mode():
        first = model.encode(fmri, mask)
        second = model.encode(torch.where(mask, fmri, 99.0), mask)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["linc", "abcd"])
def test_xcpd_tables_stand_where_they_were_measured(mode, atlas, tmp_path):
    write_xcpd(tmp_path / "xcpd", mode)
    with pytest.raises(InputError, match=r"bids\.seg=4S456Parcels \(there are 4S456Parcels, Tian"):
        _prepare(tmp_path / "xcpd", tmp_path / "x", atlas)
    assert _prepare(tmp_path / "xcpd", tmp_path / "out", atlas, "bids.seg=4S456Parcels") == 0
    cohort, scans = Cohort(tmp_path / "out"), _scans(tmp_path / "out")
    assert cohort.atlas.networks[:4] == ("Vis", "Vis", "Default", "Default")
    censored = np.zeros(LENGTH, bool)
    censored[[10, 11, 30]] = True
    for index in range(len(cohort)):
        series = cohort.store.raw(index)
        truth = draw_series(index + 1, 64)[:, :LENGTH] - 1000
        assert np.isnan(series[1]).all()
        rest = np.arange(8) != 1
        np.testing.assert_array_equal(cohort.censored(index), censored)
        np.testing.assert_allclose(series[rest][:, ~censored], truth[rest][:, ~censored], atol=1e-3)
    assert (scans["volumes"] == 64).all()
    assert (scans["censored"] == 3).all()
    assert scans["mean_fd"].astype(float).between(0.1, 0.2).all()
    assert set(scans["strategy"]) == {"n/a"}


def test_rows_of_na_are_gaps_and_a_wrong_table_of_outliers_is_refused(atlas, tmp_path):
    root = tmp_path / "xcpd"
    write_xcpd(root, "abcd", subjects=10)
    for path in root.glob("*/func/*4S456*timeseries.tsv"):
        lines = path.read_text().splitlines()
        lines[6] = "\t".join(["n/a"] * 8)
        path.write_text("\n".join(lines) + "\n")
    short = next(root.glob("sub-01/func/*outliers.tsv"))
    short.write_text("\n".join(short.read_text().splitlines()[:50]) + "\n")
    code = _prepare(root, tmp_path / "out", atlas, "bids.seg=4S456Parcels")
    assert code == 3
    reason = (tmp_path / "out/failures.tsv").read_text()
    assert "they belong to different scans" in reason
    cohort = Cohort(tmp_path / "out")
    assert cohort.censored(0)[5]
    assert np.isfinite(cohort.store.raw(0)[0]).all()


def test_a_new_task_renames_nothing_and_labels_stay(atlas, tmp_path, monkeypatch):
    import fmrilm.preparation.prepare as module

    root, output = tmp_path / "fmriprep", tmp_path / "out"
    write_fmriprep(root, "23.2.3")
    assert _prepare(root, output, atlas) == 0
    table = pd.read_csv(output / "samples.tsv", sep="\t")
    table["task_score"] = np.arange(10) + 0.5
    table.to_csv(output / "samples.tsv", sep="\t", index=False)
    done = []
    original = module.prepare_scan
    monkeypatch.setattr(
        module, "prepare_scan", lambda scan, *rest: done.append(scan) or original(scan, *rest)
    )
    for path in sorted(root.glob("sub-01/func/*")):  # one new task
        (path.parent / path.name.replace("task-rest", "task-nback")).write_bytes(path.read_bytes())
    assert _prepare(root, output, atlas) == 0
    assert [scan.session for scan in done] == ["task-nback_run-01"]
    after = pd.read_csv(output / "samples.tsv", sep="\t")
    assert after["task_score"].notna().sum() == 10
    # a scan that is gone keeps its row, and ids of earlier versions move with their files
    for path in root.glob("sub-02/func/*"):
        path.unlink()
    after["session_id"] = after["session_id"].replace("task-rest_run-01", "1")
    after.to_csv(output / "samples.tsv", sep="\t", index=False)
    assert _prepare(root, output, atlas) == 0
    final = pd.read_csv(output / "samples.tsv", sep="\t").set_index("participant_id")
    assert final["task_score"].notna().sum() == 10
    assert final.loc["sub-03", "session_id"] == "task-rest_run-01"
    assert final.loc["sub-03", "task_score"] == 2.5
    assert Cohort(output).labels("task_score").notna().sum() == 8


def test_labels_follow_their_file_where_the_old_session_names_two(tmp_path):
    from fmrilm.preparation.sample_labels import write_samples

    pd.DataFrame({"participant_id": ["s"], "session_id": ["ses-1"], "mark": ["x"]}).to_csv(
        tmp_path / "samples.tsv", sep="\t", index=False
    )
    scans = pd.DataFrame({
        "participant_id": ["s", "s"], "session_id": ["ses-1_task-a", "ses-1_task-b"],
        "path": ["/d/s_task-a.nii", "/d/s_task-b.nii"], "mean_fd": [0.1, 0.2],
    })  # fmt: skip
    assert write_samples(scans, tmp_path, {}) == 1  # nobody can tell: kept as it is
    assert write_samples(scans, tmp_path, {("s", "ses-1"): ("s_task-b.nii", "")}) == 0
    table = pd.read_csv(tmp_path / "samples.tsv", sep="\t")
    assert table["mark"].fillna("").tolist() == ["", "x"]


@pytest.mark.parametrize("kind", ["sidecar", "header"])
def test_a_tr_in_milliseconds_is_refused_with_what_to_do(kind, atlas, tmp_path):
    import nibabel

    root = tmp_path / "tree"
    write_description(root, "fMRIPrep", "23.2.3")
    for number in range(2):
        folder = root / f"sub-{number}" / "func"
        folder.mkdir(parents=True)
        stem = folder / f"sub-{number}_task-rest_space-MNI152NLin6Asym_desc-preproc_bold"
        write_image(stem, draw_series(number, 50), 2000.0 if kind == "sidecar" else None)
        if kind == "header":
            image = nibabel.load(f"{stem}.nii.gz")
            data = np.asarray(image.dataobj)
            image = nibabel.Nifti1Image(data, image.affine)
            image.header.set_zooms((4, 4, 4, 1000.0))
            image.header.set_xyzt_units("mm", "sec")
            nibabel.save(image, f"{stem}.nii.gz")
    with pytest.raises(InputError, match=r"none of the 2 scans.*set t_r=") as caught:
        _prepare(root, tmp_path / "out", atlas)
    assert "\n" not in str(caught.value)


def test_outputs_without_an_image_in_mni_space_get_one_sentence(atlas, tmp_path):
    root = tmp_path / "native"
    folder = root / "sub-1" / "func"
    folder.mkdir(parents=True)
    write_image(folder / "sub-1_task-rest_space-T1w_desc-preproc_bold", draw_series(0, 50))
    (folder / "sub-1_task-rest_desc-confounds_timeseries.tsv").write_text("csf\n1\n2\n")
    with pytest.raises(InputError, match=r"no image in an MNI space .*found: space-T1w"):
        _prepare(root, tmp_path / "out", atlas)
    cifti = tmp_path / "cifti" / "sub-1" / "func"
    cifti.mkdir(parents=True)
    (cifti / "sub-1_task-rest_space-fsLR_den-91k_bold.dtseries.nii").touch()
    with pytest.raises(InputError, match=r"no image in an MNI space, only dense CIFTI.*fsLR"):
        _prepare(tmp_path / "cifti", tmp_path / "out", atlas)
    echo = tmp_path / "echo" / "sub-1" / "func"
    echo.mkdir(parents=True)
    (echo / "sub-1_task-rest_echo-1_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz").touch()
    with pytest.raises(InputError, match=r"bids\.echo="):
        _prepare(tmp_path / "echo", tmp_path / "out", atlas)
    assert not (tmp_path / "out").exists()


def test_the_tables_that_nilearn_ships_are_read():
    import nilearn.interfaces.fmriprep as interfaces

    from fmrilm.preparation.denoising.regressors import (
        choose_regressors,
        read_confounds,
        select_regressors,
    )
    from fmrilm.signals.dummy_scans import tabled_dummy_scans

    folder = Path(interfaces.__file__).parent / "data"
    names = ["test_desc-confounds_regressors.tsv", "test-v21_desc-confounds_timeseries.tsv"]
    paths = [folder / name for name in names]
    if not all(path.is_file() for path in paths):
        pytest.skip("this nilearn ships no tables")
    for path in paths:
        volumes = len(pd.read_csv(path, sep="\t"))
        table = read_confounds(path, volumes)
        for strategy in ("simple", "compcor"):
            found, kept = select_regressors(path, path, table, choose_regressors(strategy, {}))
            assert len(found) == len(kept) == volumes
            assert not kept[: tabled_dummy_scans(table)].any()
    with pytest.raises(InputError, match="scrubbing would censor every volume"):
        select_regressors(path, path, table, choose_regressors("scrubbing", {}))


def test_a_sampling_frequency_says_the_tr(tmp_path):
    from fmrilm.signals.timing import sidecar_t_r

    sidecar = tmp_path / "sub-1_timeseries.json"
    for text, value in (({"SamplingFrequency": 0.5}, 2.0), ({"SamplingFrequency": "TR"}, None)):
        sidecar.write_text(json.dumps(text))
        assert sidecar_t_r(tmp_path / "sub-1_timeseries.tsv") == value
