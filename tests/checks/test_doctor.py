import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from fmrilm.atlases.atlas import Atlas
from fmrilm.checks.doctor import examine_cohort, examine_scan
from fmrilm.checks.region_order import fit_orders, known_orders
from fmrilm.cli import main
from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.scaling import Scaler
from fmrilm.datasets.synthetic.cohort import simulate

PERMUTED = ("subcortex last", "left and right swapped", "17-network order")


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Return a clean cohort at 450 x 160."""
    return simulate(str(tmp_path_factory.mktemp("clean") / "UKB"), subjects=30, seed=3)


def _change(folder: Path, change) -> None:
    """Replace every series of the store by ``change(series, index)``."""
    with h5py.File(folder / "data_resampled.h5", "r+") as handle:
        group = handle["time_series"]
        for index in range(len(group)):
            name = f"sample_{index}"
            series = change(group[name][()], index)
            del group[name]
            group.create_dataset(name, data=series.astype(np.float32))


def _set(folder: Path, name: str, value) -> None:
    with h5py.File(folder / "data_resampled.h5", "r+") as handle:
        meta = handle["metadata"]
        if name in meta:
            del meta[name]
        meta[name] = value


def _first(fault):
    """Plant a fault in the first three samples only."""
    return lambda folder: _change(folder, lambda s, i: fault(s.copy()) if i < 3 else s)


def _all(fault):
    return lambda folder: _change(folder, lambda s, i: fault(s.copy()))


def _rows(rows, value):
    def fault(series):
        series[rows] = value
        return series

    return fault


def _swap_first_two(folder):
    with h5py.File(folder / "data_resampled.h5", "r+") as handle:
        group = handle["time_series"]
        group["sample_1"][...] = group["sample_0"][()]


def _thin(folder):
    count = len(Cohort(folder))
    coverage = np.ones((count, 450), np.float32)
    coverage[:, 20:25] = 0.3
    _set(folder, "coverage", coverage)


def _fewer_regions(folder):
    _change(folder, lambda s, i: s[:400])
    _set(folder, "roi_ids", [str(i) for i in range(1001, 1401)])


def _one_class(folder):
    path = folder / "participants.tsv"
    path.write_text(path.read_text().replace("\tM\t", "\tF\t"))


def _edit_people(change):
    def fault(folder):
        path = folder / "participants.tsv"
        table = pd.read_csv(path, sep="\t", dtype=str)
        change(table)
        table.to_csv(path, sep="\t", index=False)

    return fault


def _code_sexes(table):
    table["sex"] = table["sex"].map({"M": "1", "F": "2"})


def _code_missing_scores(table):
    table.loc[[2, 5], "fluidintel"] = "-9"


def _permute(name):
    order = known_orders(Atlas.load("schaefer400_tianS3"))[name]
    return _all(lambda series: series[order])


def _shuffled_regions(series):
    return series[np.random.default_rng(0).permutation(len(series))]


def _stretch(series):
    return series[:, np.linspace(0, 99.4, 160).round().astype(int)]


def _white(series):
    return series[:, np.random.default_rng(0).permutation(series.shape[1])]


def _nan_inside(series):
    series[5, 10] = np.nan
    return series


def _dummies(series):
    series[:, :4] += 10 * series.std(axis=1, keepdims=True)
    return series


FAULTS = {
    "dummy_scans": _first(_dummies),
    "t_r": lambda folder: _set(folder, "t_r", 2.5),
    "short": _first(lambda s: s[:, :120]),
    "stretched": _first(_stretch),
    "no_slow_fluctuation": _all(_white),
    "missing_regions": _all(_rows(slice(7, 10), np.nan)),
    "constant_regions": _all(_rows(slice(30, 32), 5.0)),
    "thin_regions": _thin,
    "unreadable": _first(_nan_inside),
    "order_subcortex_last": _permute("subcortex last"),
    "order_left_and_right_swapped": _permute("left and right swapped"),
    "order_17_network_order": _permute("17-network order"),
    "order_unknown": _all(_shuffled_regions),
    "twins": _swap_first_two,
    "mixed_units": _first(lambda s: (s - s.mean(1, keepdims=True)) / s.std(1, keepdims=True)),
    "atlas": _fewer_regions,
    "one_class": _one_class,
    "unknown_label": _edit_people(_code_sexes),
}


def test_a_clean_cohort_has_no_findings(clean):
    assert examine_cohort(clean) == []


@pytest.mark.parametrize("code", list(FAULTS))
def test_a_planted_fault_is_found_and_only_it(code, clean, tmp_path):
    folder = tmp_path / "UKB"
    shutil.copytree(clean, folder)
    FAULTS[code](folder)
    findings = examine_cohort(folder)
    assert [finding.code for finding in findings] == [code]
    assert findings[0].fix
    assert findings[0].level in ("error", "warning")


def test_a_code_for_missing_values_is_found(clean, tmp_path):
    folder = tmp_path / "UKB"
    shutil.copytree(clean, folder)
    _edit_people(_code_missing_scores)(folder)
    found = {finding.code: finding for finding in examine_cohort(folder)}
    assert found["missing_code"].where == ["fluidintel"]
    assert "missing: {fluidintel: [-9]}" in found["missing_code"].fix
    assert "holds '-9.0', outside 0 to 160 (2 of" in found["unknown_label"].message


def test_scale_drift_from_a_checkpoint_is_found(clean):
    own = Scaler("robust_global").fit(Cohort(clean).store, Cohort(clean).indices("train"))
    assert examine_cohort(clean, own) == []
    other = Scaler.from_dict({"norm": "robust_global", "center": 14000, "scale": 30})
    assert [finding.code for finding in examine_cohort(clean, other)] == ["scale_drift"]


def test_a_global_scaling_of_raw_intensities_is_pointed_out(clean, tmp_path):
    folder = tmp_path / "UKB"
    shutil.copytree(clean, folder)
    (folder / "normalization_params.npz").unlink(missing_ok=True)
    path = folder / "cohort.yaml"
    path.write_text(path.read_text().replace("robust_roi", "robust_global"))
    assert [finding.code for finding in examine_cohort(folder)] == ["static_means"]


def test_the_real_group_connectivity_is_in_the_order_of_the_table():
    """HCP mean FC of brainspace: the order is told without anything made up."""
    from fmrilm.datasets.synthetic.signal import _brainspace_matrix

    path = _brainspace_matrix()
    if path is None:
        pytest.skip("brainspace is not installed (demo-requirements.txt)")
    cortex = Atlas.load("schaefer400_tianS3")
    cortex = cortex.select(cortex.labels[50:])
    matrix = np.arctanh(np.clip(np.loadtxt(path, delimiter=","), -0.999, 0.999))
    for name, order in known_orders(cortex).items():
        fits = fit_orders(matrix[np.ix_(order, order)], cortex)
        assert max(fits, key=fits.get) == name
        assert fits[name] - max(v for k, v in fits.items() if k != name) > 0.03


def test_the_command_prints_json_and_returns_1_on_a_finding(clean, tmp_path, capsys):
    folder = tmp_path / "UKB"
    shutil.copytree(clean, folder)
    FAULTS["t_r"](folder)
    with pytest.raises(SystemExit) as end:
        main(["doctor", str(folder), "--json"])
    assert end.value.code == 1
    content = json.loads(capsys.readouterr().out)
    assert content["failed"]
    assert content["findings"][0]["code"] == "t_r"
    with pytest.raises(SystemExit) as end:
        main(["doctor", str(clean / "data_resampled.h5")])
    assert end.value.code == 0
    assert "nothing found" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["doctor", str(tmp_path / "nowhere")])
    assert end.value.code == 2


def test_one_scan_is_examined_before_anything_is_prepared(make_study, tmp_path):
    nib = pytest.importorskip("nibabel", reason="needs fmrilm[imaging]")
    make_study(tmp_path / "study", subjects=1, volumes=60)
    folder = tmp_path / "study"
    atlas = Atlas.read(folder / "atlas.tsv")
    scan = next((folder / "derivatives").rglob("*preproc_bold.nii.gz"))
    codes = [f.code for f in examine_scan(scan, atlas, str(folder / "atlas.nii.gz"))]
    assert codes == ["resampled", "short"]
    sidecar = scan.with_name(scan.name.replace("nii.gz", "json"))
    sidecar.write_text('{"RepetitionTime": 2.0}')
    cut = nib.load(scan).slicer[:9]
    nib.save(cut, tmp_path / "cut.nii.gz")
    codes = {f.code for f in examine_scan(scan, atlas, str(folder / "atlas.nii.gz"))}
    assert "t_r_disagrees" in codes
    found = examine_scan(tmp_path / "cut.nii.gz", atlas, str(folder / "atlas.nii.gz"), 2.0, 20)
    assert {"space", "missing_regions"} <= {f.code for f in found}
