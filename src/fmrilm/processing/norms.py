"""A scan's own measures against the training scans: what is told of it, and what texts claim of it.

The connectivity of networks, measured in the training scans and kept beside the weights
(``norms.npz``), so that a raw scan is described by the grammar of ``fmrilm describe`` wherever the
model is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fmrilm.atlases.atlas import Atlas
from fmrilm.cohort.cohort import Cohort
from fmrilm.descriptors.connectivity import Connectivity
from fmrilm.descriptors.measures.scans import mask_censored
from fmrilm.descriptors.text.verify import verify
from fmrilm.errors import InputError
from fmrilm.files import NORMS, write_arrays
from fmrilm.processing.drift import TrainingScans, training_rows
from fmrilm.readers import read_arrays

_NEEDED = ("mean_", "std_", "n_scans_")
_REMEDY = "train the run again, or go on with it by --resume"


@dataclass(frozen=True)
class OwnDescription:
    """What is told of a scan from its own measures.

    Attributes
    ----------
    text : str
        Worded by the grammar: true of the scan by construction.
    measures : dict of str to float
        Mean Fisher z within and between networks, and ``<measure>_z``: standard deviations from
        the training scans.
    """

    text: str
    measures: dict[str, float]

    def check(self, text: str) -> list[CheckedClaim]:
        """What this scan's measures say of the claims of any text about it."""
        return [
            CheckedClaim(item.claim.text, item.verdict, list(item.wrong))
            for item in verify(text, self.measures).verdicts
        ]


@dataclass(frozen=True)
class CheckedClaim:
    """A claim of a text, compared with the measures of a scan; as plain values.

    Attributes
    ----------
    text : str
        The clause.
    verdict : str
        ``supported``, ``contradicted`` or ``unverifiable``.
    wrong : list of str
        The parts that do not fit: direction, strength, z, value, rank.
    """

    text: str
    verdict: str
    wrong: list[str]


class ConnectivityNorms:
    """Connectivity within and between networks in the training scans.

    Parameters
    ----------
    family : Connectivity
        Fitted on training scans.
    """

    def __init__(self, family: Connectivity) -> None:
        self.family = family

    def describe(self, series: np.ndarray, censored: np.ndarray) -> OwnDescription:
        """Describe one scan.

        Parameters
        ----------
        series : ndarray, shape (n_rois, n_timepoints)
            Absent regions are NaN; the scale of a region is of no account.
        censored : ndarray of bool, shape (n_timepoints,)
            Time points that are interpolated over censored volumes.
        """
        measures = self.family.transform([mask_censored(series, censored)])
        (text,) = self.family.describe(measures)
        scores = self.family.z_scores(measures)
        names = self.family.measure_names()
        values = measures[names].iloc[0].to_dict() | scores.iloc[0].to_dict()
        known = {name: float(value) for name, value in values.items() if np.isfinite(value)}
        return OwnDescription(text, known)

    def save(self, folder: Path) -> None:
        """Write ``norms.npz``."""
        write_arrays(folder / NORMS, self.family.state(), compressed=True)

    @classmethod
    def load(cls, folder: Path, atlas: Atlas) -> ConnectivityNorms | None:
        """Read what :meth:`save` wrote; None if there is nothing.

        Raises
        ------
        InputError
            If the file is damaged or belongs to other networks.
        """
        path = folder / NORMS
        if not path.is_file():
            return None
        family = Connectivity(atlas.networks, names=atlas.names)
        state: Mapping[str, np.ndarray] = read_arrays(path, _NEEDED, _REMEDY)
        size = (len(family.measure_names()),)
        if state["mean_"].shape != size or state["std_"].shape != size:
            raise InputError(f"{path} is of other networks than the atlas beside it: {_REMEDY}")
        family.set_state(dict(state))
        return cls(family)


def fit_norms(cohorts: Sequence[Cohort], points: int) -> ConnectivityNorms | None:
    """The norms of the training scans of all cohorts, or of an even part of them.

    Parameters
    ----------
    cohorts : sequence of Cohort
        Of one atlas.
    points : int
        Time points that are looked at, from the start: those the model reads.

    Returns
    -------
    norms : ConnectivityNorms or None
        None with too few scans, or where regions have no networks.
    """
    atlas, rows = cohorts[0].atlas, training_rows(cohorts)
    if not rows or not any(atlas.networks):
        return None
    family = Connectivity(atlas.networks, names=atlas.names)
    family.fit(TrainingScans(rows, points))
    return ConnectivityNorms(family)
