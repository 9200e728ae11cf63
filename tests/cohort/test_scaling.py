import numpy as np
import pytest

from fmrilm.cohort.scaling import NORMS, Scaler
from fmrilm.cohort.store import TimeSeriesStore, write_store
from fmrilm.errors import InputError


@pytest.fixture
def store(tmp_path):
    """Return 12 scans of two sites; site b fluctuates three times as much and lies higher."""
    rng = np.random.default_rng(0)
    samples = []
    for i in range(12):
        factor, offset = (1, 100) if i % 2 == 0 else (3, 300)
        samples.append((f"s{i}", "1", offset + factor * rng.standard_normal((5, 200))))
    ids = [str(i) for i in range(5)]
    write_store(tmp_path / "x.h5", samples, t_r=2, atlas="five", roi_ids=ids, source="test")
    return TimeSeriesStore(tmp_path / "x.h5")


SITES = list("ab" * 6)


@pytest.mark.parametrize("norm", NORMS)
def test_a_scaler_survives_saving_and_scales_alike(norm, store, tmp_path):
    scaler = Scaler(norm).fit(store, np.arange(8), SITES)
    scaler.save(tmp_path / "normalization_params.npz")
    again = Scaler.load(tmp_path / "normalization_params.npz")
    assert again.to_dict() == scaler.to_dict()
    series, mask = store.read(11)
    for one, two in zip(
        scaler.transform(series, mask, "b"), again.transform(series, mask, "b"), strict=True
    ):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("norm", NORMS)
def test_only_the_training_scans_count(norm, store, tmp_path):
    series = [store.raw(i).copy() for i in range(12)]
    series[10][:] = 1e6 * np.random.default_rng(1).standard_normal((5, 200))
    samples = [(f"s{i}", "1", s) for i, s in enumerate(series)]
    ids = [str(i) for i in range(5)]
    write_store(tmp_path / "y.h5", samples, t_r=2, atlas="five", roi_ids=ids, source="test")
    changed = TimeSeriesStore(tmp_path / "y.h5")
    train = np.arange(8)
    first, second = (Scaler(norm).fit(s, train, SITES) for s in (store, changed))
    assert first.to_dict() == second.to_dict()


def test_robust_scaling_per_region_ignores_offset_scale_and_spikes(store):
    series, mask = store.read(0)
    spiked = series * 7 - 20
    spiked[:, 50] = 1e5
    one, two = (Scaler("robust_roi").transform(s, mask)[0] for s in (series, spiked))
    rest = np.arange(200) != 50
    np.testing.assert_allclose(one[:, rest], two[:, rest], atol=0.1)
    np.testing.assert_allclose(np.median(one, axis=1), 0, atol=1e-5)


def test_site_scaling_makes_the_sites_alike(store):
    scaler = Scaler("robust_global+site").fit(store, np.arange(8), SITES)
    spread = [
        scaler.transform(*store.read(i), SITES[i])[0].std(axis=1).mean() for i in range(8, 12)
    ]
    np.testing.assert_allclose(spread, 1, atol=0.1)
    plain = Scaler("robust_global").fit(store, np.arange(8))
    unlike = [plain.transform(*store.read(i))[0].std(axis=1).mean() for i in (8, 9)]
    assert unlike[1] > 2.5 * unlike[0]


def test_a_site_without_training_scans_and_a_missing_site_column_are_errors(store):
    scaler = Scaler("none+site").fit(store, np.arange(8), SITES)
    with pytest.raises(InputError, match="no training scan is from site c"):
        scaler.transform(*store.read(0), "c")
    with pytest.raises(InputError, match="needs the column site"):
        Scaler("none+site").fit(store, np.arange(8))


def test_a_region_without_spread_is_masked_not_divided():
    series = np.random.default_rng(0).standard_normal((3, 50)).astype(np.float32)
    series[1, :40] = 2.0  # varies, but its quartiles are equal
    scaled, mask = Scaler("robust_roi").transform(series, np.array([True, True, False]))
    assert mask.tolist() == [True, False, False]
    assert not scaled[1:].any()
    assert np.isfinite(scaled).all()


def test_an_original_file_with_centre_and_scale_is_enough(tmp_path):
    np.savez(tmp_path / "n.npz", norm="robust_global", center=14000.0, scale=6500.0)
    scaler = Scaler.load(tmp_path / "n.npz")
    scaled, _ = scaler.transform(np.array([[14000.0, 20500.0]]), np.array([True]))
    assert scaled.tolist() == [[0, 1]]


def test_an_unfitted_scaler_and_an_unknown_norm_are_refused(store):
    with pytest.raises(RuntimeError, match="must be fitted"):
        Scaler("robust_global").transform(*store.read(0))
    with pytest.raises(InputError, match="did you mean 'robust_roi'"):
        Scaler("robust_rio")


def test_opening_a_cohort_with_another_norm_does_not_replace_its_statistics(tmp_path, store):
    from fmrilm.cohort.cohort import Cohort, write_info
    from fmrilm.studies.known import CohortInfo

    store.path.rename(tmp_path / "data_resampled.h5")
    rows = "\n".join(f"s{i}\t{SITES[i]}" for i in range(12))
    (tmp_path / "participants.tsv").write_text(f"participant_id\tsite\n{rows}\n")
    write_info(tmp_path, CohortInfo("x", "A test.", norm="robust_global"))
    first = Cohort(tmp_path)
    content = (tmp_path / "normalization_params.npz").read_bytes()
    assert first.scaler.fitted_on_ == sorted(first.table.query("split == 'train'")["subject_id"])
    assert Cohort(tmp_path, "standard_roi+site").scaler.norm == "standard_roi+site"
    assert (tmp_path / "normalization_params.npz").read_bytes() == content
