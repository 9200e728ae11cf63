import numpy as np
import pytest

from fmrilm.atlases.atlas import Atlas
from fmrilm.cohort.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.preparation.prepare import prepare
from fmrilm.preparation.scan import PrepareSettings, choose_t_r, load_settings, prepare_scan
from fmrilm.preparation.sources.read import ScanFile
from fmrilm.studies.known import COHORTS


def _choose(sidecar, header, setting=None, cohort="BIDS"):
    notes: list[str] = []
    scan = ScanFile("s", "1", None, t_r=sidecar)
    value = choose_t_r(scan, header, COHORTS[cohort], PrepareSettings(t_r=setting), notes)
    return value, notes


def test_the_tr_comes_from_setting_sidecar_header_and_cohort_in_this_order():
    assert _choose(0.8, 0.8) == (0.8, [])
    assert _choose(None, 0.72)[0] == 0.72
    assert _choose(0.8, 0.8, 1.5)[0] == 1.5
    value, notes = _choose(None, None, cohort="UKB")
    assert value == 0.735
    assert "from the entry of UKB" in notes[0]
    with pytest.raises(InputError, match="set it with t_r="):
        _choose(None, None)


def test_a_tr_that_disagrees_is_reported():
    value, notes = _choose(0.8, 1.0)
    assert value == 0.8
    assert notes == ["TR: sidecar says 0.8 s (used), header 1 s"]


@pytest.fixture
def atlas():
    return Atlas.generic(["a", "b", "c"], "three")


def _table(path, series):
    lines = ["a\tb\tc", *("\t".join(f"{v:.6f}" for v in row) for row in series.T)]
    path.write_text("\n".join(lines) + "\n")
    return ScanFile("s", "1", path, t_r=2.0)


def test_constant_and_absent_regions_are_counted(atlas, tmp_path):
    series = np.random.default_rng(0).standard_normal((3, 30))
    series[1] = 4
    series[2] = np.nan
    scan = _table(tmp_path / "x.tsv", series)
    found = prepare_scan(scan, atlas, COHORTS["BIDS"], PrepareSettings(n_timepoints=20))
    assert found.facts["constant_rois"] == 1
    assert found.facts["absent_rois"] == 1
    assert found.pieces[0].series.shape == (3, 20)
    assert np.isnan(found.pieces[0].series[2]).all()


def test_nan_inside_a_region_and_a_scan_without_regions_are_refused(atlas, tmp_path):
    series = np.random.default_rng(0).standard_normal((3, 30))
    series[1, 5] = np.nan
    settings = PrepareSettings(n_timepoints=20)
    with pytest.raises(InputError, match="region b holds NaN or Inf"):
        prepare_scan(_table(tmp_path / "x.tsv", series), atlas, COHORTS["BIDS"], settings)
    constant = _table(tmp_path / "y.tsv", np.ones((3, 30)))
    with pytest.raises(InputError, match="every region is absent or constant"):
        prepare_scan(constant, atlas, COHORTS["BIDS"], settings)


def test_settings_come_from_a_file_and_pairs_win(tmp_path):
    (tmp_path / "s.yaml").write_text("length: pad\nn_timepoints: 100\n")
    settings = load_settings(["n_timepoints=120", "bids.task=rest"], tmp_path / "s.yaml")
    assert (settings.length, settings.n_timepoints) == ("pad", 120)
    assert dict(settings.bids) == {"task": "rest"}
    with pytest.raises(FileNotFoundError):
        load_settings([], tmp_path / "nothing.yaml")


def test_450_parcels_of_xcpd_ptseries_reach_the_right_rows(tmp_path):
    """In another order than the table's, one parcel missing, two that are no regions of it."""
    nib = pytest.importorskip("nibabel", reason="needs fmrilm[imaging]")
    from nibabel.cifti2 import ParcelsAxis, SeriesAxis

    atlas = Atlas.load("schaefer400_tianS3")
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((450, 50)).astype(np.float32)
    order = rng.permutation(450)
    order = order[order != 77]
    names = [*(atlas.names[i] for i in order), "Cerebellum_1", "Cerebellum_2"]
    data = np.vstack([truth[order], np.zeros((2, 50), np.float32)])
    voxels = [np.array([[i % 40, i // 40, 0]]) for i in range(len(names))]
    parcels = ParcelsAxis(names, voxels, [{}] * len(names), np.eye(4), (40, 40, 10), {})
    image = nib.Cifti2Image(data.T, (SeriesAxis(0, 2.0, 50), parcels))
    for number in range(10):
        folder = tmp_path / "xcpd" / f"sub-{number}" / "func"
        folder.mkdir(parents=True)
        name = f"sub-{number}_task-rest_space-fsLR_atlas-4S456Parcels_den-91k"
        nib.save(image, folder / f"{name}_stat-mean_timeseries.ptseries.nii")
    code = prepare(str(tmp_path / "xcpd"), ["n_timepoints=50"], output=str(tmp_path / "cohort"))
    assert code == 0
    cohort = Cohort(tmp_path / "cohort")
    found = cohort.store.raw(0)
    rest = np.arange(450) != 77
    np.testing.assert_array_equal(found[rest], truth[rest])
    assert np.isnan(found[77]).all()
    assert cohort.store.extra("coverage")[0, 77] == 0
