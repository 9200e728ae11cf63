"""Plain models over many splits: repeated by subject, leaving sites out, fewer people to train on.

These refit on each split, so they say how much a score depends on who was held out. A trained
fMRI-LM is not refitted: only its frozen features are, and only on training people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fmrilm.evaluation.baselines.baselines import fit_one
from fmrilm.stats.classification import undefined_reason
from fmrilm.stats.intervals import Estimate, estimates, score_samples
from fmrilm.stats.kinds import KINDS, Kind
from fmrilm.stats.significance import nadeau_bengio

FRACTIONS = (0.7, 0.1, 0.2)
MIN_SITE_SCANS = 10


@dataclass(frozen=True)
class Scans:
    """Features and labels of all labelled scans of a cohort.

    Attributes
    ----------
    features : dict of str to ndarray, shape (n, p)
    labels : ndarray, shape (n,)
        Classes (int), or numbers.
    subjects, sites : ndarray of str, shape (n,)
    n_classes : int, optional
        None: the labels are numbers.
    """

    features: Mapping[str, np.ndarray]
    labels: np.ndarray
    subjects: np.ndarray
    sites: np.ndarray
    n_classes: int | None

    @property
    def kind(self) -> Kind:
        """How answers are scored; classes with an order as those without."""
        return KINDS["values" if self.n_classes is None else "classes"]

    def score(self, name: str, train: np.ndarray, val: np.ndarray, test: np.ndarray) -> Estimate:
        """Return the primary score of a linear model of one feature; nan with the reason.

        Logistic regression, of numbers ridge.
        """
        found, reason = self._answers(name, train, val, test)
        if reason:
            return Estimate(float("nan"), reason=reason)
        [answers] = self.kind.answers(found).repetitions()
        ones = np.ones((1, len(test)))
        return Estimate(float(self.kind.primary_metric(self.labels[test], *answers, ones)[0]))

    def estimate(self, name: str, train: np.ndarray, val: np.ndarray, test: np.ndarray) -> Estimate:
        """Return the same score with its interval over people."""
        kind = self.kind
        found, reason = self._answers(name, train, val, test)
        if reason:
            return Estimate(float("nan"), reason=reason)
        labels, subjects = self.labels[test], self.subjects[test]
        metrics = {kind.primary: kind.primary_metric}
        samples = score_samples({"": kind.answers(found)}, labels, subjects, metrics)
        return estimates(samples[""], labels, subjects, self._classes)[kind.primary]

    def _answers(
        self, name: str, train: np.ndarray, val: np.ndarray, test: np.ndarray
    ) -> tuple[np.ndarray, str]:
        """Return answers (n, C) to the scans ``test``, or why there are none that have a score."""
        values, labels, kind = self.features[name], self.labels, self.kind
        lacks = kind.lacks(labels[train], self.n_classes)
        if lacks:
            return np.empty((0, 0)), f"{lacks} in training"
        parts = [values[part] for part in (train, val, test)]
        known, people = ((x[train], x[val]) for x in (labels, self.subjects))
        found = fit_one(kind.plain, parts, known, self.n_classes, people)
        undefined = undefined_reason(kind.primary, labels[test], self._classes)
        return found, undefined or kind.says_nothing(found)

    @property
    def _classes(self) -> list[str]:
        return [str(index) for index in range(self.n_classes or 0)]


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
    """Return, per feature, the scores over fresh splits and their mean with a corrected interval.

    A split in which the score is undefined is nan and does not count for the mean.
    """
    found: dict[str, dict[str, object]] = {}
    people = len(np.unique(scans.subjects))
    for name in scans.features:
        each = [scans.score(name, *grouped_split(scans, seed)) for seed in range(n_repeats)]
        scores = [one.value for one in each]
        estimate = nadeau_bengio(
            np.array(scores), max(1, round(FRACTIONS[0] * people)), round(FRACTIONS[2] * people)
        )
        if np.isnan(scores).all():
            estimate = replace(estimate, reason=_reason(each))
        found[name] = {"scores": scores, "estimate": estimate}
    return found


def leave_site_out(scans: Scans) -> dict[str, dict[str, Estimate]]:
    """Return, per feature and site, the score on that site of a model that never saw it.

    The penalty is chosen on a tenth of the other sites' people. Sites with fewer than ten scans,
    or without every class (numbers: with a single label), are left out; empty where there is but
    one site.
    """
    sites = [
        site
        for site in np.unique(scans.sites)
        if (scans.sites == site).sum() >= MIN_SITE_SCANS
        and not scans.kind.lacks(scans.labels[scans.sites == site], scans.n_classes)
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
            seen = train[outside[train]], val[outside[val]]
            found[name][str(site)] = scans.estimate(name, *seen, test)
    return found


def learning_curve(
    scans: Scans,
    splits: tuple[np.ndarray, np.ndarray, np.ndarray],
    sizes: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0),
    n_repeats: int = 3,
) -> dict[str, list[dict[str, object]]]:
    """Return, per feature, the score on fixed test scans over the number of training people.

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
        scores: dict[str, list[Estimate]] = {name: [] for name in found}
        for repeat in range(1 if share == 1 else n_repeats):
            chosen = np.random.default_rng(repeat).permutation(people)[:count]
            part = train[np.isin(scans.subjects[train], chosen)]
            for name in found:
                scores[name].append(scans.score(name, part, val, test))
        for name in found:
            found[name].append({"people": count, "estimate": _over_draws(scores[name])})
    return found


def _over_draws(scores: list[Estimate]) -> Estimate:
    """Return the mean of the scores that are defined, and their range."""
    known = [score.value for score in scores if not np.isnan(score.value)]
    if not known:
        return Estimate(float("nan"), reason=_reason(scores))
    mean = float(np.mean(known))
    return Estimate(mean, min(known), max(known)) if len(known) > 1 else Estimate(mean)


def _reason(scores: list[Estimate]) -> str:
    return next((score.reason for score in scores if score.reason), "")
