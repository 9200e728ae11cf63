import dataclasses

import numpy as np
import pandas as pd
import pytest

from fmrilm.atlases.atlas import Atlas
from fmrilm.datasets.synthetic.calibration import Meter, Planting, effect_size
from fmrilm.datasets.synthetic.effects import NETWORKS, planted_sizes
from fmrilm.datasets.synthetic.signal import SIGNALS, Person, Scanner
from fmrilm.descriptors import DESCRIPTORS

ATLAS = Atlas.generic(40)
ATLAS = Atlas("small", ATLAS.labels, ATLAS.names, NETWORKS * 5, ATLAS.hemispheres, ATLAS.centroids)
CONNECTIVITY = 0.1 + 0.2 * np.equal.outer(ATLAS.networks, ATLAS.networks) + 0.7 * np.eye(40)


@pytest.fixture(scope="module", params=list(SIGNALS))
def scanner(request):
    return Scanner(ATLAS, CONNECTIVITY, 120, SIGNALS[request.param])


@pytest.fixture(scope="module")
def planting(scanner):
    return Planting.calibrate(scanner, ATLAS, fd=0.0)


def scan(scanner, shifts, seed):
    rng = np.random.default_rng(seed)
    clean = scanner.scan(Person.draw(shifts, len(ATLAS), scanner.signal, rng), rng)
    clean = clean + scanner.global_signal(scanner.signal.slope, 1.0, rng)
    return scanner.intensities(clean, (1.0, 0.0), np.zeros(scanner.n_timepoints), rng)


def test_the_meter_measures_connectivity_as_the_descriptors_do(scanner):
    raw = scan(scanner, {}, 0).astype(float)
    meter = Meter(ATLAS)
    meter.measure(raw)
    family = DESCRIPTORS["fc"](ATLAS.networks)
    named = dict(
        zip(
            family.measure_names(),
            family.measure(raw, np.ones(40, bool), np.ones(raw.shape[1], bool)),
            strict=True,
        )
    )
    (blocks,) = meter.values("connectivity")
    vis, limbic = NETWORKS.index("Vis"), NETWORKS.index("Limbic")
    for measure, found in (("Limbic__Vis", blocks[limbic, vis]), ("Vis__Vis", blocks[vis, vis])):
        first, second = measure.split("__")
        known = named.get(f"fc__{measure}", named.get(f"fc__{second}__{first}"))
        assert found == pytest.approx(known, abs=1e-5)


def test_a_size_found_is_that_of_the_phenotype_and_not_of_the_site():
    rng = np.random.default_rng(0)
    scores = {"sex": np.arange(4000) % 2 - 0.5, "age": rng.standard_normal(4000)}
    site = rng.integers(3, size=4000)
    values = 0.1 * (rng.standard_normal(4000) + 0.8 * scores["sex"] + 5 * site)
    assert effect_size(values, "sex", scores, pd.Series(site)) == pytest.approx(0.8, abs=0.1)
    assert effect_size(values, "age", scores, pd.Series(site)) == pytest.approx(0, abs=0.05)


def test_the_expected_correlation_is_that_of_a_long_scan():
    scanner = Scanner(ATLAS, CONNECTIVITY, 4000, SIGNALS["first"])
    coupling = 0.5 * np.eye(8)
    coupling[0, 1] = coupling[1, 0] = 0.2
    scans = [scan_of_average(scanner, coupling, seed) for seed in range(30)]
    expected = scanner.expected_correlation(coupling, 0.0)
    np.testing.assert_allclose(np.mean(scans, axis=0), expected, atol=0.06)


def scan_of_average(scanner, coupling, seed):
    rng = np.random.default_rng(seed)
    drawn = Person.draw({}, len(ATLAS), scanner.signal, rng)
    average = dataclasses.replace(
        drawn,
        coupling=coupling + drawn.coupling - 0.5 * np.eye(8),
        log_amplitude=np.zeros(8),
        slope=np.ones(8),
    )
    return np.corrcoef(scanner.scan(average, rng))


def test_a_planted_size_moves_its_own_measure_by_as_much_and_the_others_hardly(scanner, planting):
    scores = {"F": {"sex": 0.5}, "M": {"sex": -0.5}}
    meters = {}
    for group in scores:
        meters[group] = Meter(ATLAS)
        for seed in range(400):  # the same people but for the effect
            meters[group].measure(scan(scanner, planting.shifts(scores[group]), seed))

    def found(kind):
        female, male = (meters[group].values(kind) for group in "FM")
        return (female - male).mean(0) / male.std(0)

    def planted(kind):
        return planted_sizes(scores["F"], kind) - planted_sizes(scores["M"], kind)

    np.testing.assert_allclose(found("connectivity"), planted("connectivity"), atol=0.3)
    network = int(np.flatnonzero(planted("amplitude"))[0])
    assert found("amplitude")[network] == pytest.approx(planted("amplitude")[network], abs=0.15)
