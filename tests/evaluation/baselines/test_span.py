"""The span of many scans is found in little memory, and features of many scans lie in a file."""

import tracemalloc

import numpy as np

from fmrilm.evaluation.baselines import span as spans
from fmrilm.evaluation.baselines.span import Span
from fmrilm.evaluation.baselines.storage import allocate


def test_memory_for_the_span_does_not_grow_with_scans_times_features():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((12_000, 4000), dtype=np.float32)  # 192 MB
    tracemalloc.start()
    Span(max_components=10).fit(features[:-100], features[-100:])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 320 * 2**20  # 32 MB blocks in several copies; 1.1 GB when 8192 columns were


def test_the_span_does_not_depend_on_how_many_features_are_read_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    strong = rng.normal(size=(520, 8)) @ rng.normal(size=(8, 900)) * 3
    features = (strong + rng.normal(size=(520, 900))).astype(np.float32)
    whole = Span(max_components=30).fit(features[:500], features[500:])
    monkeypatch.setattr(spans, "CELLS", 520 * 37)
    parts = Span(max_components=30).fit(features[:500], features[500:])
    np.testing.assert_allclose(parts.mean_, whole.mean_, atol=1e-6)
    overlap = np.linalg.svd(whole.basis_[:, -8:].T @ parts.basis_)[1]
    assert overlap.min() > 0.9999


def test_at_500_scans_the_leading_components_answer_as_the_exact_span():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(520, 6)) @ rng.normal(size=(6, 1500)) * 4
    features += 0.01 * rng.normal(size=features.shape)
    exact = Span().fit(features[:500], features[500:])
    leading = Span(max_components=100).fit(features[:500], features[500:])
    products = [one.transform(features) @ one.transform(features).T for one in (exact, leading)]
    np.testing.assert_allclose(products[1], products[0], atol=2e-3)


def test_large_arrays_lie_in_a_file_and_small_ones_in_memory():
    small, large = allocate((3, 4), np.float32), allocate((300, 4), np.float32, most=1000)
    assert small.base is None
    assert isinstance(large.base, np.memmap)
    large[:] = np.arange(4)
    assert large.shape == (300, 4)
    assert large[-1].tolist() == [0, 1, 2, 3]
