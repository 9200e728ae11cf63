"""Planted effects appear in the texts, on the right side."""

import numpy as np
import pytest

from descriptors.builders import NETWORKS
from fmrilm.descriptors import DESCRIPTORS

LABELS = np.unique(NETWORKS, return_inverse=True)[1]
VIS, DEFAULT = np.array(NETWORKS) == "Vis", np.array(NETWORKS) == "Default"


def make_person(rng, shift):
    """A scan whose Vis-Default coupling is `shift` SD (between people) away from the mean."""
    shared = 0.3 + 0.12 * (rng.normal() + shift)  # of the two networks' signals
    own = rng.normal(size=(5, 400))
    both = rng.normal(size=400)
    signals = own[LABELS]
    mixed = np.sqrt(np.clip(shared, 0, 1))
    rest = np.sqrt(1 - mixed**2)
    signals[VIS] = mixed * both + rest * own[LABELS[VIS]]
    signals[DEFAULT] = mixed * both + rest * own[LABELS[DEFAULT]]
    return signals + 0.5 * rng.normal(size=(30, 400))


@pytest.mark.parametrize("effect", [1.0, -1.0])
@pytest.mark.parametrize(
    ("name", "measure"), [("fc", "fc__Vis__Default"), ("ica", "fnc__Vis__Default")]
)
def test_an_effect_of_one_sd_is_told_on_its_side(effect, name, measure):
    rng = np.random.default_rng(0)
    options = {}
    if name == "ica":  # five networks that cover everything have no independent maps: give them
        options["maps"] = np.stack([k == LABELS for k in range(5)]).astype(float)
    family = DESCRIPTORS[name](NETWORKS, **options)
    family.fit([make_person(rng, 0) for _ in range(150)])
    affected = [make_person(rng, effect) for _ in range(150)]
    z = family.z_scores(family.transform(affected))[f"{measure}_z"]
    assert 0.75 <= abs(z.mean()) <= 1.25  # the planted size arrived in the measure
    told = [
        fact.z
        for sentences in family.explain(affected)
        for sentence in sentences
        for fact in sentence.facts
        if fact.measure == measure and abs(round(fact.z, 2)) > 1
    ]
    assert len(told) > 40
    assert (np.sign(told) == effect).mean() >= 0.8


def test_words_predict_the_group_of_held_out_people_and_shuffled_labels_do_not():
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline

    rng = np.random.default_rng(1)
    group = np.arange(600) % 2
    scans = [make_person(rng, 2.0 * (label - 0.5)) for label in group]
    family = DESCRIPTORS["fc"](NETWORKS).fit(scans[:450])
    texts = family.describe(scans)
    tokens = r"[a-z]+(?:-[a-z]+)*|-?\d+(?=\.)"

    def auc(labels):
        counter = CountVectorizer(ngram_range=(1, 4), token_pattern=tokens, min_df=10, binary=True)
        model = make_pipeline(counter, LogisticRegression(C=0.1))
        model.fit(texts[:450], labels[:450])
        return roc_auc_score(labels[450:], model.predict_proba(texts[450:])[:, 1])

    assert auc(group) > 0.65
    assert abs(auc(rng.permutation(group)) - 0.5) < 0.15
