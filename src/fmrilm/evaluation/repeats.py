"""Plain models over many splits: repeated by subject, leaving sites out, fewer people to train on.

These refit on each split, so they say how much a score depends on who was held out. A trained
fMRI-LM is not refitted: only its frozen features are, and only on training people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fmrilm.evaluation.intervals import Answers, Estimate, estimates, score_samples
from fmrilm.evaluation.linear import LinearBaseline
from fmrilm.evaluation.metrics import PRIMARY, auc
from fmrilm.evaluation.significance import nadeau_bengio

FRACTIONS = (0.7, 0.1, 0.2)
MIN_SITE_SCANS = 10
FEW = 500  # resamples: a site has few people


@dataclass(frozen=True)
class Scans:
    """Features and labels of all labelled scans of a cohort.

    Attributes
    ----------
    features : dict of str to ndarray, shape (n, p)
    labels : ndarray of int, shape (n,)
    subjects, sites : ndarray of str, shape (n,)
    n_classes : int
    """

    features: Mapping[str, np.ndarray]
    labels: np.ndarray
    subjects: np.ndarray
    sites: np.ndarray
    n_classes: int

    def predict(
        self, name: str, train: np.ndarray, val: np.ndarray, test: np.ndarray
    ) -> np.ndarray | None:
        """Return what logistic regression on one feature answers, (n, C); None without a class."""
        values, labels = self.features[name], self.labels
        if len(np.unique(labels[train])) < self.n_classes:
            return None
        model = LinearBaseline().fit(values[train], labels[train], values[val], labels[val])
        return model.predict_proba(values[test], self.n_classes)

    def score(self, name: str, train: np.ndarray, val: np.ndarray, test: np.ndarray) -> float:
        """Return the AUC of logistic regression on one feature; nan where train lacks a class."""
        found = self.predict(name, train, val, test)
        if found is None:
            return float("nan")
        ones = np.ones((1, len(test)))
        return float(auc(self.labels[test], found, found.argmax(1), ones)[0])

    def estimate(self, found: np.ndarray | None, test: np.ndarray) -> Estimate:
        """Return the AUC of answers (n, C) to the scans ``test`` with its bootstrap interval."""
        if found is None:
            return Estimate(float("nan"), reason="a class is missing in training")
        labels, subjects = self.labels[test], self.subjects[test]
        samples = score_samples({"": Answers(found)}, labels, subjects, {PRIMARY: auc}, FEW)
        classes = [str(index) for index in range(self.n_classes)]
        return estimates(samples[""], labels, subjects, classes)[PRIMARY]


def grouped_split(
    scans: Scans, seed: int, fractions: tuple[float, float, float] = FRACTIONS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions of train, val and test; nobody is in two, labels are spread evenly."""
    rng = np.random.default_rng(seed)
    names, first = np.unique(scans.subjects, return_index=True)
    order = rng.permutation(len(names))
    order = order[np.argsort(scans.labels[first[order]], kind="stable")]
    place = (np.arange(len(names)) + rng.uniform()) * 0.6180339887 % 1.0  # spread over the order
    part = np.searchsorted(np.cumsum(fractions)[:2], place, side="right")
    of = dict(zip(names[order], part, strict=True))
    parts = np.array([of[name] for name in scans.subjects])
    train, val, test = (np.flatnonzero(parts == index) for index in range(3))
    return train, val, test


def repeated_splits(scans: Scans, n_repeats: int = 5) -> dict[str, dict[str, object]]:
    """Return, per feature, the AUCs over fresh splits and their mean with a corrected interval."""
    found: dict[str, dict[str, object]] = {}
    people = len(np.unique(scans.subjects))
    for name in scans.features:
        scores = [scans.score(name, *grouped_split(scans, seed)) for seed in range(n_repeats)]
        estimate = nadeau_bengio(
            np.array(scores), max(1, round(FRACTIONS[0] * people)), round(FRACTIONS[2] * people)
        )
        found[name] = {"scores": scores, "estimate": estimate}
    return found


def leave_site_out(scans: Scans) -> dict[str, dict[str, Estimate]]:
    """Return, per feature and site, the AUC on that site of a model that never saw it.

    The penalty is chosen on a tenth of the other sites' people. Sites with fewer than ten scans,
    or only one class, are left out; empty where fewer than two sites remain.
    """
    sites = [
        site
        for site in np.unique(scans.sites)
        if (scans.sites == site).sum() >= MIN_SITE_SCANS
        and len(np.unique(scans.labels[scans.sites == site])) == scans.n_classes
    ]
    if len(np.unique(scans.sites)) < 2:
        return {}
    found: dict[str, dict[str, Estimate]] = {}
    for name in scans.features:
        found[name] = {}
        for site in sites:
            test = np.flatnonzero(scans.sites == site)
            outside = ~np.isin(scans.subjects, scans.subjects[test])
            train, val, rest = grouped_split(scans, 0, (0.9, 0.1, 0.0))
            train = np.concatenate([train, rest])
            answers = scans.predict(name, train[outside[train]], val[outside[val]], test)
            found[name][str(site)] = scans.estimate(answers, test)
    return found


def learning_curve(
    scans: Scans,
    splits: tuple[np.ndarray, np.ndarray, np.ndarray],
    sizes: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0),
    n_repeats: int = 3,
) -> dict[str, list[dict[str, object]]]:
    """Return, per feature, the AUC on fixed test scans over the number of training people.

    Parameters
    ----------
    scans : Scans
    splits : train, val and test positions
    sizes : tuple of float
        Shares of the training people.
    n_repeats : int
        Draws of each share; the whole is drawn once.
    """
    train, val, test = splits
    people = np.unique(scans.subjects[train])
    found: dict[str, list[dict[str, object]]] = {name: [] for name in scans.features}
    for share in sizes:
        count = max(4, round(share * len(people)))
        scores: dict[str, list[float]] = {name: [] for name in found}
        for repeat in range(1 if share == 1 else n_repeats):
            chosen = np.random.default_rng(repeat).permutation(people)[:count]
            part = train[np.isin(scans.subjects[train], chosen)]
            for name in found:
                scores[name].append(scans.score(name, part, val, test))
        for name in found:
            known = [s for s in scores[name] if not np.isnan(s)]
            estimate = Estimate(float(np.mean(known)) if known else float("nan"))
            if len(known) > 1:
                estimate = Estimate(estimate.value, min(known), max(known))
            found[name].append({"people": count, "estimate": estimate})
    return found
