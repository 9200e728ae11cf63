"""Every registered family keeps the contract: tested the moment it is registered."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from descriptors.builders import NAMES, NETWORKS, T_R, make_scans
from fmrilm.descriptors import COUNTS, DESCRIPTORS
from fmrilm.errors import InputError

BAD_NUMBER = re.compile(r"\b(nan|inf)\b", re.IGNORECASE)


@pytest.fixture(params=sorted(DESCRIPTORS))
def family(request):
    return DESCRIPTORS[request.param](networks=NETWORKS, t_r=T_R, names=NAMES)


@pytest.fixture
def scans():
    return make_scans(12)


def test_measures_have_the_announced_columns(family, scans):
    measures = family.fit(scans[:8]).transform(scans)
    assert list(measures.columns) == [*COUNTS, *family.measure_names()]
    assert list(family.get_feature_names_out()) == list(measures.columns)
    assert len(measures) == len(scans)
    assert np.isfinite(measures.to_numpy(float)).mean() > 0.9


def test_z_scores_of_the_training_scans_have_mean_zero_and_unit_spread(family, scans):
    z = family.fit(scans).z_scores(family.transform(scans)).to_numpy()
    known = np.isfinite(z).all(0)
    assert known.mean() > 0.8
    np.testing.assert_allclose(z[:, known].mean(0), 0, atol=1e-8)
    np.testing.assert_allclose(z[:, known].std(0, ddof=1), 1, atol=1e-6)


def test_fit_sees_the_training_scans_only(family, scans):
    family.fit(scans[:8])
    before = family.z_scores(family.transform(scans[:8]))
    family.transform([scan * 3 + 1 for scan in scans[8:]])
    pd.testing.assert_frame_equal(before, family.z_scores(family.transform(scans[:8])))


def test_a_scan_alone_gives_the_same_measures_as_in_a_list(family, scans):
    family.fit(scans[:8])
    together = family.transform(scans).iloc[[9]].reset_index(drop=True)
    pd.testing.assert_frame_equal(family.transform([scans[9]]), together)


def test_the_same_seed_gives_the_same_text_and_another_seed_other_words(family, scans):
    family.fit(scans[:8])
    first, again = family.describe(scans, seed=1), family.describe(scans, seed=1)
    assert first == again
    other = family.describe(scans, seed=2)
    assert first != other
    numbers = [sorted(re.findall(r"-?\d+\.\d+", text)) for text in first]
    assert numbers == [sorted(re.findall(r"-?\d+\.\d+", text)) for text in other]


def test_text_is_made_from_measures_alone(family, scans):
    measures = family.fit(scans[:8]).transform(scans)
    assert family.describe(measures) == family.describe(scans)


def test_texts_are_compact(family, scans):
    lengths = [len(text.split()) for text in family.fit(scans[:8]).describe(scans)]
    assert 15 <= np.median(lengths) <= 160


@pytest.mark.parametrize("damage", ["absent", "constant", "short", "empty", "network"])
def test_missing_data_is_told_and_never_prints_nan(family, scans, damage):
    family.fit(scans[:8])
    scan = scans[9].copy()
    if damage == "absent":
        scan[3] = np.nan
    elif damage == "constant":
        scan[[4, 11]] = 7.0
    elif damage == "short":
        scan = scan[:, :1]
    elif damage == "empty":
        scan[:] = np.nan
    else:
        scan[[name == "Default" for name in NETWORKS]] = np.nan
    (text,) = family.describe([scan])
    assert not BAD_NUMBER.search(text)
    told = {"absent": "29 of 30", "constant": "28 of 30", "network": "24 of 30"}
    assert told.get(damage, "could not be measured") in text


def test_an_absent_region_changes_only_what_it_belongs_to(family, scans):
    family.fit(scans[:8])
    counts = family.transform([scans[9]])[list(COUNTS)].to_numpy()[0]
    assert tuple(counts) == scans[9].shape


def test_every_sentence_knows_the_facts_it_states(family, scans):
    family.fit(scans[:8])
    measures = family.transform(scans)
    z = family.z_scores(measures)
    for row, sentences in enumerate(family.explain(measures)):
        assert any(sentence.facts for sentence in sentences)
        for sentence in sentences:
            for fact in sentence.facts:
                assert fact.value == measures[fact.measure].iloc[row]
                assert fact.z == z[f"{fact.measure}_z"].iloc[row]


def test_clone_and_saved_state_give_the_same_texts(family, scans):
    family.fit(scans[:8])
    copy = clone(family).set_state(family.state())
    assert copy.describe(scans) == family.describe(scans)


def test_wrong_number_of_regions_is_refused(family, scans):
    with pytest.raises(InputError, match="does not fit 30 regions"):
        family.fit([scan[:7] for scan in scans])


def test_one_training_scan_is_refused(family, scans):
    with pytest.raises(InputError, match="training scans"):
        family.fit(scans[:1])


def test_what_stands_in_a_censored_time_point_is_in_no_correlation(family, scans):
    """Families that need no even sampling do not see it at all; the others' filters do, weakly."""
    family.fit(scans[:8])
    plain = scans[9]
    spiked = plain.copy()
    moved = np.zeros(plain.shape[1], bool)
    moved[[20, 41, 42, 60]] = True
    spiked[:, moved] += 4 * plain.std()
    correlations = [
        i
        for i, name in enumerate(family.measure_names())
        if not family.in_time or name.startswith(("fnc", "fc_fluctuation"))
    ]

    def measured(series, censored):
        scan = np.ma.array(series, mask=[censored] * len(series)) if censored.any() else series
        return family.measure_scan(scan)[2:][correlations]

    none = np.zeros_like(moved)
    masked = measured(plain, moved)
    change = np.nan_to_num(np.abs(measured(spiked, moved) - masked))
    if not family.in_time:
        np.testing.assert_array_equal(masked, family.measure_scan(plain[:, ~moved])[2:])
        assert change.max() == 0
    elif correlations:
        seen = np.nan_to_num(np.abs(measured(spiked, none) - measured(plain, none)))
        assert change.mean() < 0.3 * seen.mean()
