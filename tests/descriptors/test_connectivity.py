"""Family fc against a direct computation."""

import numpy as np
import pytest

from descriptors.builders import NETWORKS, make_scans
from fmrilm.descriptors import Connectivity, verify
from fmrilm.descriptors.connectivity import correlation
from fmrilm.descriptors.text.facts import Fact, Statement
from fmrilm.descriptors.text.grammar import Grammar


def test_network_means_equal_a_direct_average_over_region_pairs():
    scans = make_scans(3)
    measures = Connectivity(NETWORKS).fit(scans).transform(scans[:1]).iloc[0]
    z = np.arctanh(np.corrcoef(scans[0]) - 1e-12 * np.eye(30))
    labels = np.array(NETWORKS)
    vis, default = labels == "Vis", labels == "Default"
    between = z[np.ix_(vis, default)].mean()
    within = z[np.ix_(vis, vis)][np.triu_indices(6, 1)].mean()
    assert measures["fc__Vis__Default"] == pytest.approx(between, abs=1e-10)
    assert measures["fc__Vis__Vis"] == pytest.approx(within, abs=1e-10)
    same = labels[:, None] == labels[None]
    off = ~np.eye(30, dtype=bool)
    assert measures["fc_within"] == pytest.approx(z[same & off].mean(), abs=1e-10)
    assert measures["fc_between"] == pytest.approx(z[~same].mean(), abs=1e-10)


def test_correlation_agrees_with_nilearn():
    measure = pytest.importorskip("nilearn.connectome").ConnectivityMeasure(
        kind="correlation", standardize=False, cov_estimator=_empirical()
    )
    scan = make_scans(1)[0]
    expected = measure.fit_transform([scan.T])[0]
    np.testing.assert_allclose(correlation(scan), expected, atol=1e-6)


def _empirical():
    from sklearn.covariance import EmpiricalCovariance

    return EmpiricalCovariance()


def test_identical_series_stay_finite():
    scan = make_scans(1)[0]
    scan[1] = scan[0]
    values = Connectivity(NETWORKS).measure_scan(scan)
    assert np.isfinite(values).all()


def test_a_stronger_network_is_told_as_stronger():
    family = Connectivity(NETWORKS).fit(make_scans(20, n_timepoints=160))
    scan = make_scans(1, n_timepoints=160, seed=5)[0]
    vis = np.array(NETWORKS) == "Vis"
    scan[vis] += 4 * np.random.default_rng(1).normal(size=scan.shape[1])
    sentences = family.explain([scan])[0]
    fact = sentences[0].facts[0]
    assert fact.measure == "fc__Vis__Vis"
    assert fact.z > 2
    assert "markedly" in sentences[0].text
    assert "within visual (z" in sentences[0].text.lower()


@pytest.mark.parametrize(
    ("lowest", "words"), [(-0.3, {"most negative"}), (0.1, {"weakest", "lowest"})]
)
def test_the_weakest_pair_is_the_lowest_and_called_by_its_sign(lowest, words):
    quantities = {quantity.key: quantity for quantity in Connectivity.quantities}
    statement = Statement("weakest", (Fact("fc__Vis__Default", lowest, 0.0),))
    told = [Grammar(quantities, seed=seed).realise(statement).text for seed in range(12)]
    known = ("most negative", "weakest", "lowest")
    assert {word for word in known if any(word in text for text in told)} == words
    row = {"fc__Vis__Default": lowest, "fc__Vis__Vis": 0.6}
    row |= {f"{name}_z": 0.0 for name in row}
    assert all(verify(text, row).is_true for text in told)
