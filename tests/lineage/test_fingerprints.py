import numpy as np
import pytest

from fmrilm.lineage.fingerprints import Fingerprints, candidates, match, same_content, sketch

CHANGES = {
    "scaled": lambda s, rng: s * 1.01,
    "centred": lambda s, rng: s - s.mean(axis=1, keepdims=True),
    "rounded": lambda s, rng: s.astype(np.float16),
    "cut": lambda s, rng: s[:, 20:-10],  # of long scans: a window is compared as it is
    "noisy": lambda s, rng: s + 0.2 * s.std(axis=1, keepdims=True) * rng.standard_normal(s.shape),
}


def _people(count, n_rois, n_times):
    """Series with a common structure of regions, slow over time, at the level of intensities."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((n_rois, n_rois)) / 2
    for _ in range(count):
        own = mixing + rng.standard_normal((n_rois, n_rois)) / 3
        noise = np.cumsum(rng.standard_normal((n_rois, n_times)), axis=1)
        yield (1000 + own @ (noise - noise.mean(axis=1, keepdims=True))).astype(np.float32)


def _prints(scans):
    pairs = [sketch(scan) for scan in scans]
    lengths = np.array([scan.shape[1] for scan in scans])
    return Fingerprints(
        *(np.stack(part) for part in zip(*pairs, strict=True)), lengths, len(scans[0])
    )


@pytest.mark.parametrize(
    ("change", "n_times"),
    [*((name, length) for name in CHANGES for length in (8, 150) if (name, length) != ("cut", 8))],
)
def test_a_copy_is_recognised_and_nobody_else(change, n_times):
    scans = list(_people(30, 60, n_times))
    rng = np.random.default_rng(1)
    copy = CHANGES[change](scans[7], rng).astype(np.float32)
    assert [i for i, scan in enumerate(scans) if same_content(scan, copy)] == [7]
    pairs = [(i, j) for i, j, _ in candidates(_prints(scans), _prints([copy]))]
    assert (7, 0) in pairs
    assert len(pairs) < 5
    assert match(_prints(scans), _prints([copy])) == [0]
    assert match(_prints(scans[:7] + scans[8:]), _prints([copy])) == []


def test_an_absent_region_does_not_hide_a_copy():
    [scan] = _people(1, 60, 120)
    copy = scan.copy()
    copy[3] = np.nan
    assert same_content(scan, copy)
    assert sketch(scan)[0] @ sketch(copy)[0] > 0.9


def test_fingerprints_stay_the_same_over_versions():
    # Runs keep them: another random number generator must not change them.
    series = np.sin(np.outer(np.arange(1, 5), np.arange(20))).astype(np.float32)
    of_series, of_fc = sketch(series)
    assert np.linalg.norm(of_series) == pytest.approx(1)
    assert of_series[:3] == pytest.approx([-0.077352, -0.046497, -0.023062], abs=1e-4)
    assert of_fc[:3] == pytest.approx([-0.042951, 0.139739, 0.030357], abs=1e-4)
