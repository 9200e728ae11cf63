import numpy as np
import pandas as pd
import pytest

from fmrilm.errors import InputError
from fmrilm.signals.dummy_scans import choose_dummy_scans, detect_dummy_scans, tabled_dummy_scans


def slow(seed=0, count=100):
    noise = np.random.default_rng(seed).standard_normal((30, count + 9))
    return 1000 + 5 * np.apply_along_axis(np.convolve, 1, noise, np.hanning(10), "valid")


def with_dummies(count=4):
    series = slow()
    series[:, :count] += 300 * np.exp(-np.arange(count) / 2)
    return series


def test_volumes_before_the_steady_state_are_seen_in_raw_and_standardised_series():
    series = with_dummies()
    assert detect_dummy_scans(series) == 4
    scaled = (series - series.mean(1, keepdims=True)) / series.std(1, keepdims=True)
    assert detect_dummy_scans(scaled) == 4
    series[3], series[4] = np.nan, 0
    assert detect_dummy_scans(series) == 4


def test_nothing_is_seen_in_a_steady_scan_a_drifting_one_or_a_moving_one():
    assert not any(detect_dummy_scans(slow(seed)) for seed in range(200))
    assert detect_dummy_scans(slow() + np.linspace(60, 0, 100)) == 0
    moved = slow()
    moved[:, 20:23] += 300
    moved[:15, :2] += 300  # half of the regions only
    assert detect_dummy_scans(moved) == 0
    assert detect_dummy_scans(np.ones((3, 30))) == 0


def test_fmriprep_is_believed_and_a_number_wins():
    table = pd.DataFrame({"csf": np.zeros(100)})
    table["non_steady_state_outlier00"] = np.eye(100)[0]
    table["non_steady_state_outlier01"] = np.eye(100)[1]
    assert tabled_dummy_scans(table) == 2
    assert choose_dummy_scans("auto", table, slow()) == (2, "2 dummy scans dropped (marked by "
                                                            "fMRIPrep)")  # fmt: skip
    assert choose_dummy_scans("5", table, slow()) == (5, "5 dummy scans dropped (as set)")
    assert choose_dummy_scans("0", table, slow()) == (0, "")
    assert choose_dummy_scans("auto", None, with_dummies())[0] == 4
    # fMRIPrep was told that there were none
    assert choose_dummy_scans("auto", table[["csf"]], with_dummies())[0] == 4
    for setting in ("some", "-1", "2.5"):
        with pytest.raises(InputError, match="use auto or a number"):
            choose_dummy_scans(setting, table, slow())
    with pytest.raises(InputError, match="leave nothing"):
        choose_dummy_scans("99", table, slow())


@pytest.mark.parametrize("shape", [(5, 0), (5, 1), (0, 0), (0, 30)])
def test_nothing_is_said_of_a_scan_without_volumes(shape):
    assert detect_dummy_scans(np.zeros(shape, np.float32)) == 0
