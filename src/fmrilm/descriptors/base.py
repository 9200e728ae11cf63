"""The contract of a descriptor family: series -> measures -> sentences, as in scikit-learn."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from fmrilm.descriptors.measures.scans import check_regions, split_censored, usable_regions
from fmrilm.descriptors.text.facts import Fact, Quantity, Sentence, Statement
from fmrilm.descriptors.text.grammar import Grammar
from fmrilm.errors import InputError
from fmrilm.registry import Registry

COUNTS = ("n_rois", "n_timepoints")  # what was measured on; first columns of every table


class Descriptor(TransformerMixin, BaseEstimator):
    """Base of the families. A subclass says what it measures and which facts it tells.

    Parameters
    ----------
    networks : sequence of str
        The network of each region, in the order of the rows of a series.
    t_r : float
        Seconds between two time points.
    names : sequence of str, optional
        The anatomical name of each region.

    Attributes
    ----------
    mean_, std_ : ndarray, shape (n_measures,)
        Of the measures over the training scans; NaN where fewer than two have the measure.
    n_scans_ : int
        Training scans.

    Notes
    -----
    A series has the shape (n_rois, n_timepoints). Regions whose row holds a NaN or is constant
    are left out, counted in ``n_rois`` and told in the text. Censored time points are masked
    columns of a masked array, in no correlation and not counted in ``n_timepoints``. ``fit`` takes
    training scans only.
    """

    family: ClassVar[str]
    title: ClassVar[str]  # what the family measures, in words
    quantities: ClassVar[tuple[Quantity, ...]]
    min_timepoints: ClassVar[int] = 8
    min_rois: ClassVar[int] = 2
    template: ClassVar[tuple[str, ...]] = ()  # attributes that fit_template sets

    def __init__(
        self, networks: Sequence[str], t_r: float = 2.0, names: Sequence[str] | None = None
    ) -> None:
        self.networks = networks
        self.t_r = t_r
        self.names = names

    in_time: ClassVar[bool] = True  # needs even sampling: sees interpolated time points too

    # What a subclass defines -----------------------------------------------------------------

    def measure_names(self) -> list[str]:
        """Return the names of the measures, known before fitting."""
        raise NotImplementedError

    def measure(self, series: np.ndarray, usable: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Return the measures of one scan, NaN where one cannot be taken.

        Parameters
        ----------
        series : ndarray, shape (n_rois, n_timepoints)
        usable : ndarray of bool, shape (n_rois,)
            Regions that have a signal.
        kept : ndarray of bool, shape (n_timepoints,)
            Time points that were measured; the others are interpolated over censored volumes and
            have no part in a correlation.
        """
        raise NotImplementedError

    def fit_template(self, scans: Iterable[np.ndarray]) -> Descriptor:
        """Learn what the measures need from the training scans (templates, components)."""
        return self

    def choose(self, facts: dict[str, Fact]) -> list[Statement]:
        """Return what the text of one scan says, from its known facts."""
        raise NotImplementedError

    # What every family shares ----------------------------------------------------------------

    def fit(self, scans: Iterable[np.ndarray], y: object = None) -> Descriptor:
        """Learn templates and the distribution of the measures from training scans.

        Parameters
        ----------
        scans : sequence of ndarray, shape (n_rois, n_timepoints)
            Read more than once, so a sequence and not a generator; it may read from disk lazily.
        y : None
            Ignored.
        """
        self.fit_template(scans)
        return self.fit_distribution(self._measure_all(scans))

    def fit_distribution(self, measures: pd.DataFrame) -> Descriptor:
        """Learn ``mean_`` and ``std_`` from the measures of the training scans.

        Raises
        ------
        InputError
            If there are fewer than two training scans.
        """
        if len(measures) < 2:
            raise InputError(f"{self.family}: {len(measures)} training scans, at least 2 needed")
        values = measures[self.measure_names()].to_numpy(float)
        known = np.isfinite(values)
        count = known.sum(0)
        filled = np.where(known, values, 0)
        enough = count >= 2
        mean = filled.sum(0) / np.maximum(count, 1)
        squares = (np.where(known, values - mean, 0) ** 2).sum(0)
        std = np.sqrt(squares / np.maximum(count - 1, 1))
        self.mean_ = np.where(enough, mean, np.nan)
        self.std_ = np.where(enough & (std > 1e-12 * (1 + np.abs(mean))), std, np.nan)
        self.n_scans_ = len(values)
        return self

    def transform(self, scans: Iterable[np.ndarray]) -> pd.DataFrame:
        """Return the measures, one row per scan; columns are ``get_feature_names_out()``."""
        check_is_fitted(self, "mean_")
        return self._measure_all(scans)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the column names of :meth:`transform`."""
        return np.asarray([*COUNTS, *self.measure_names()], dtype=object)

    def state(self) -> dict[str, np.ndarray]:
        """Return what was learned so far, as arrays: the template, and ``mean_`` and ``std_``."""
        learned = (*self.template, "mean_", "std_", "n_scans_")
        return {name: np.asarray(getattr(self, name)) for name in learned if hasattr(self, name)}

    def set_state(self, state: dict[str, np.ndarray]) -> Descriptor:
        """Take back what :meth:`state` returned; other keys are ignored."""
        for name in (*self.template, "mean_", "std_", "n_scans_"):
            if name in state:
                setattr(self, name, state[name])
        return self

    def z_scores(self, measures: pd.DataFrame) -> pd.DataFrame:
        """Return each measure's z against the training scans, columns ``<measure>_z``."""
        check_is_fitted(self, "mean_")
        names = self.measure_names()
        values = (measures[names].to_numpy(float) - self.mean_) / self.std_
        return pd.DataFrame(values, index=measures.index, columns=[f"{name}_z" for name in names])

    def explain(self, scans: Iterable[np.ndarray] | pd.DataFrame, seed: int = 0) -> list[list]:
        """Return the sentences of every scan, each with the facts it states.

        Parameters
        ----------
        scans : sequence of ndarray, or DataFrame
            Series, or the measures that :meth:`transform` returned.
        seed : int
            Of the wording. The wording of a row depends on the seed and on the row's index label
            only, not on its neighbours.
        """
        measures = scans if isinstance(scans, pd.DataFrame) else self.transform(scans)
        names = self.measure_names()
        values = measures[names].to_numpy(float)
        z = self.z_scores(measures).to_numpy(float)
        counts = measures[list(COUNTS)].to_numpy(int)
        rows = zip(measures.index, values, z, counts, strict=True)
        return [self._explain_one(key, v, score, n, seed) for key, v, score, n in rows]

    def describe(self, scans: Iterable[np.ndarray] | pd.DataFrame, seed: int = 0) -> list[str]:
        """Return one paragraph per scan; parameters as in :meth:`explain`."""
        return [
            " ".join(sentence.text for sentence in sentences)
            for sentences in self.explain(scans, seed)
        ]

    def place_names(self) -> dict[str, str]:
        """Return the names of places that are not networks, by their part of a measure's name."""
        return {}

    def measure_scan(self, series: np.ndarray) -> np.ndarray:
        """Return the counts and measures of one scan, shape (2 + n_measures,).

        Raises
        ------
        InputError
            If the series has another number of regions than there are networks.
        """
        series, kept = split_censored(check_regions(series, len(self.networks)))
        if not self.in_time:
            series, kept = series[:, kept], kept[kept]
        usable = usable_regions(series)
        counts = (int(usable.sum()), int(kept.sum()))
        names = self.measure_names()
        if counts[0] < self.min_rois or counts[1] < self.min_timepoints:
            values = np.full(len(names), np.nan)
        else:
            values = self.measure(series.astype(np.float64, copy=False), usable, kept)
        return np.concatenate((counts, values))

    def _measure_all(self, scans: Iterable[np.ndarray]) -> pd.DataFrame:
        rows = [self.measure_scan(series) for series in scans]
        columns = self.get_feature_names_out()
        table = pd.DataFrame(np.reshape(rows, (len(rows), len(columns))), columns=columns)
        return table.astype(dict.fromkeys(COUNTS, int))

    def _explain_one(
        self, key: object, values: np.ndarray, z: np.ndarray, counts: np.ndarray, seed: int
    ) -> list[Sentence]:
        names = self.measure_names()
        facts = {n: Fact(n, float(v), float(s)) for n, v, s in zip(names, values, z, strict=True)}
        known = {name: fact for name, fact in facts.items() if fact.is_known}
        statements = self.choose(known) if known else []
        if not statements:
            return [Sentence(self._too_little(counts))]
        grammar = Grammar(
            {quantity.key: quantity for quantity in self.quantities},
            self.place_names(),
            zlib.crc32(f"{seed}|{self.family}|{key}".encode()),
        )
        sentences = [grammar.realise(statement) for statement in statements]
        if counts[0] < len(self.networks):
            sentences.append(Sentence(f"Measured on {counts[0]} of {len(self.networks)} regions."))
        return sentences

    def _too_little(self, counts: np.ndarray) -> str:
        return (
            f"{self.title} could not be measured: the scan has {counts[0]} usable regions and "
            f"{counts[1]} time points."
        )


DESCRIPTORS: Registry[type[Descriptor]] = Registry("descriptor family")
