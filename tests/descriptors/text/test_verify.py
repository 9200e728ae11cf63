"""What the grammar writes is read back in full; what is false is found."""

import re

import numpy as np
import pandas as pd
import pytest

from descriptors.builders import NAMES, NETWORKS, T_R, make_scans
from fmrilm.descriptors import DESCRIPTORS, verify
from fmrilm.descriptors.text.verify import known_quantities

ROW = {
    "n_rois": 440,
    "n_timepoints": 160,
    "fc__Vis__Vis": 0.6,
    "fc__Vis__Vis_z": 0.4,
    "fc__Vis__Default": 0.1,
    "fc__Vis__Default_z": 2.5,
    "fc__SalVentAttn__Cont": -0.1,
    "fc__SalVentAttn__Cont_z": -1.5,
    "fc__Default__Default": 0.8,
    "fc__Default__Default_z": float("nan"),
    "modularity": 0.41,
    "modularity_z": 1.25,
    "global_efficiency": 0.2,
    "global_efficiency_z": -2.2,
    "strength__Vis": 9.0,
    "strength__Vis_z": 1.7,
    "strength__Cont": 5.0,
    "strength__Cont_z": 1.2,
}


def verdicts(text, **options):
    return [(v.claim.measure, v.verdict, v.wrong) for v in verify(text, ROW, **options).verdicts]


@pytest.fixture(scope="module", params=sorted(DESCRIPTORS))
def described(request):
    """A family, the rows of its table, and its sentences in four wordings."""
    family = DESCRIPTORS[request.param](networks=NETWORKS, t_r=T_R, names=NAMES)
    family.fit(make_scans(12))
    measures = family.transform(make_scans(8, seed=3))
    table = pd.concat([measures, family.z_scores(measures)], axis=1)
    rows = table.to_dict("records")
    return family, rows, [family.explain(measures, seed=seed) for seed in range(4)]


def test_every_written_sentence_is_read_back_completely_and_found_true(described):
    family, rows, wordings = described
    for texts in wordings:
        for row, sentences in zip(rows, texts, strict=True):
            for sentence in sentences:
                found = verify(sentence.text, row, family.place_names())
                told = {fact.measure for fact in sentence.facts}
                read = {v.claim.measure for v in found.verdicts} - {"n_rois"}
                assert read == told, sentence.text
                assert found.count("supported") == len(found.verdicts), sentence.text


def test_whole_paragraphs_are_true_of_their_scan_and_false_of_another(described):
    family, rows, wordings = described
    for row, other, sentences in zip(rows, rows[1:] + rows[:1], wordings[0], strict=True):
        text = " ".join(sentence.text for sentence in sentences)
        assert verify(text, row, family.place_names()).is_true
        assert verify(text, other, family.place_names()).count("contradicted") > 0


def test_every_changed_z_is_found(described):
    family, rows, wordings = described
    for row, sentences in zip(rows, wordings[1], strict=True):
        for sentence in sentences:
            for number in re.finditer(r"z = (-?\d+\.\d\d)", sentence.text):
                changed = f"{float(number[1]) + 0.5:.2f}"
                text = sentence.text[: number.start(1)] + changed + sentence.text[number.end(1) :]
                found = verify(text, row, family.place_names())
                assert found.count("contradicted") >= 1, text


def test_every_turned_direction_is_found(described):
    family, rows, wordings = described
    turned = {"higher": "lower", "lower": "higher", "elevated": "reduced", "reduced": "elevated"}
    pattern = re.compile(r"(?<=somewhat |markedly )(higher|lower|elevated|reduced)")
    count = 0
    for row, sentences in zip(rows, wordings[2], strict=True):
        for sentence in sentences:
            text = pattern.sub(lambda found: turned[found[0]], sentence.text)
            if text != sentence.text:
                count += 1
                found = verify(text, row, family.place_names())
                assert any("direction" in v.wrong for v in found.verdicts), text
    assert count > 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Modularity is somewhat higher (z = 1.25).", [("modularity", "supported", ())]),
        ("Modularity is lower.", [("modularity", "contradicted", ("direction",))]),
        ("Modularity is markedly higher.", [("modularity", "contradicted", ("strength",))]),
        (
            "Modularity is typical (0.41, z = 1.25).",
            [("modularity", "contradicted", ("direction",))],
        ),
        (
            "Connectivity between the default mode and visual networks is markedly higher.",
            [("fc__Vis__Default", "supported", ())],
        ),
        (
            "Coupling is reduced between the salience and frontoparietal networks (z = -1.50), "
            "while within the visual network it is typical.",
            [("fc__SalVentAttn__Cont", "supported", ()), ("fc__Vis__Vis", "supported", ())],
        ),
        (
            "Connectivity is higher between the visual and limbic networks.",
            [("fc__Vis__Limbic", "unverifiable", ())],
        ),
        (
            "Connectivity within the default mode network is markedly lower.",
            [("fc__Default__Default", "unverifiable", ())],
        ),
        (
            "The visual (z = 1.70) and frontoparietal (z = 1.20) networks show somewhat higher "
            "node strength.",
            [("strength__Vis", "supported", ()), ("strength__Cont", "supported", ())],
        ),
        (
            "Modularity is elevated, but global efficiency is reduced.",
            [("modularity", "supported", ()), ("global_efficiency", "supported", ())],
        ),
        (
            "The scan's own strongest connectivity lies within the visual network (r = 0.54).",
            [("fc__Vis__Vis", "contradicted", ("rank",))],
        ),
        (
            "This scan's strongest connectivity lies within the default mode network (r = 0.66).",
            [("fc__Default__Default", "supported", ())],
        ),
        ("Measured on 440 of 450 regions.", [("n_rois", "supported", ())]),
        ("Measured on 430 of 450 regions.", [("n_rois", "contradicted", ("value",))]),
        ("The participant enjoyed the scan.", []),
    ],
)
def test_plain_claims(text, expected):
    assert verdicts(text) == expected


def test_the_inverted_reading_of_the_original_is_contradicted():
    quantity = known_quantities()["modularity"]
    right = f"Modularity is somewhat higher (z = 1.25), pointing to {quantity.higher}."
    inverted = f"Modularity is somewhat higher (z = 1.25), pointing to {quantity.lower}."
    assert verify(right, ROW).is_true
    assert verify(inverted, ROW).count("contradicted") == 1


def test_tolerance_lets_nearby_numbers_pass():
    text = "Modularity is somewhat higher (z = 1.45)."
    assert verdicts(text) == [("modularity", "contradicted", ("z",))]
    assert verdicts(text, z_tolerance=0.25) == [("modularity", "supported", ())]


def test_scores_of_a_mixed_text():
    text = "Modularity is somewhat higher. Global efficiency is somewhat higher."
    found = verify(text, ROW)
    assert found.precision == 0.5
    assert found.direction_accuracy == 0.5
    assert not found.is_true
    assert np.isnan(verify("Nothing is said.", ROW).precision)


def test_no_two_quantities_share_a_phrase_or_a_reading():
    phrases = [p for q in known_quantities().values() for p in (q.phrase, *q.aliases)]
    readings = [r for q in known_quantities().values() for r in (q.higher, q.lower) if r]
    assert len(set(phrases)) == len(phrases)
    assert len(set(readings)) == len(readings)
