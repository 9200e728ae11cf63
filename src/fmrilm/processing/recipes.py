"""How scans of a training cohort were made, and one scan made like them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from fmrilm.cohort.cohort import Cohort
from fmrilm.files import ATLAS, DRIFT, NORMS, PROCESSOR
from fmrilm.preparation.scan import PrepareSettings
from fmrilm.preparation.sources.bids_names import BidsName
from fmrilm.preparation.sources.read import ScanFile
from fmrilm.readers import reading
from fmrilm.signals.timing import sidecar_t_r

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ScanRecipe:
    """How the scans of one training cohort were made."""

    description: str  # one sentence about the cohort, told to the model with add_src_info
    t_r: float  # seconds between two time points of the store
    scaling: dict[str, Any]  # of Scaler.to_dict, without the people it was fitted on
    preparation: dict[str, Any] = field(default_factory=dict)  # settings of `fmrilm prepare`
    targets: list[str] = field(default_factory=list)
    synthetic: bool = False

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> ScanRecipe:
        """The recipe that was saved as a dict, by this version or another."""
        known = {item.name for item in fields(cls)}
        return cls(**{key: saved[key] for key in saved if key in known})

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of `fmrilm prepare` that this version knows; empty if it made no scans."""
        known = {item.name for item in fields(PrepareSettings)}
        return {key: value for key, value in self.preparation.items() if key in known}


@dataclass(frozen=True)
class ReadyScan:
    """One scan as a model reads it, and as it was before scaling.

    Attributes
    ----------
    name : str
    fmri : Tensor, shape (R, N)
    roi_mask : Tensor of bool, shape (R,), or (R, N) where time points are masked
    series : ndarray, shape (R, T)
        Not scaled; absent regions are NaN.
    cohort : str
        The training cohort whose scaling and sentence are used.
    notes : list of str
        What was done to it, and what a reader should know.
    origin : (Cohort, int), optional
        The cohort it is a sample of, and its position there; None for a file or an array.
    facts : dict
        Of the preparation: TR, dummy scans, mean FD, regressors; empty for ready series.
    """

    name: str
    fmri: Tensor
    roi_mask: Tensor
    series: np.ndarray
    cohort: str
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    origin: tuple[Cohort, int] | None = None

    @property
    def censored(self) -> np.ndarray:
        """Time points of ``series`` that are interpolated over censored volumes, (T,)."""
        points = self.series.shape[1]
        if self.roi_mask.ndim == 1:
            return np.zeros(points, bool)
        hidden = ~self.roi_mask.any(0).numpy()[:points]  # the model may read fewer than there are
        return np.pad(hidden, (0, points - len(hidden)))

    @property
    def displacement(self) -> float:
        """Mean framewise displacement in mm; NaN where unknown."""
        value = self.facts.get("mean_fd")
        return float("nan") if value in (None, "n/a", "") else float(value)


def scan_file(path: Path) -> ScanFile:
    """A scan with what lies beside it, where its name is one of BIDS."""
    name = BidsName(path)
    if "sub" in name.entities:  # confounds and mask lie beside it
        return name.scan()
    return ScanFile(path.name.split(".")[0], "1", path, t_r=sidecar_t_r(path))


def recipe_of(cohort: Cohort) -> ScanRecipe:
    """How the scans of a cohort were made."""
    path = cohort.place("prepare.yaml")
    preparation: dict[str, Any] = {}
    if path.is_file():
        with reading(path, "delete it"):
            preparation = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    scaling = cohort.scaler.to_dict() | {"fitted_on": []}  # whose scans they were stays here
    info = cohort.info
    return ScanRecipe(
        info.description,
        float(cohort.store.t_r or info.t_r),
        scaling,
        preparation,
        list(info.targets),
        info.synthetic,
    )


def what_was_done(facts: Mapping[str, Any]) -> str:
    """One sentence on how a scan was prepared."""
    parts = [f"{facts['volumes']} volumes at TR {facts['t_r']:g} s"]
    if facts["dummy_scans"]:
        parts.append(f"the first {facts['dummy_scans']} dropped")
    if facts["regressed"]:
        parts.append(f"regressed: {facts['regressed']}")
    if facts["censored"]:
        parts.append(f"{facts['censored']} censored")
    if facts["absent_rois"]:
        parts.append(f"{facts['absent_rois']} regions absent")
    return ", ".join(parts)


def copy_processor(source: Path, target: Path) -> None:
    """Copy the files of a processor from one model folder to another."""
    for name in (PROCESSOR, ATLAS, DRIFT, NORMS):
        if (source / name).is_file():
            shutil.copy(source / name, target / name)
