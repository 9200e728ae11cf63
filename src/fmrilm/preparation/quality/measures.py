"""The quality of every sample of a prepared cohort, and of the cohort as a whole."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.scaling import Scaler
from fmrilm.preparation.quality.motion import QCFC, MotionDependence

LARGE_FD = 0.5  # mm, mean of a scan
LOW_COVERAGE = 0.9  # mean over regions
_FAR = 3.5  # robust z of the likeness to the group's FC
_MOST_FOR_GROUP = 200  # scans in the group mean


@dataclass
class ScanQuality:
    """What is known of the quality of one sample."""

    subject: str
    session: str
    mean_fd: float  # mm, NaN if unknown
    coverage: float  # mean over regions
    absent: int  # regions that are absent or constant
    likeness: float  # correlation of its FC with the group's
    flags: list[str] = field(default_factory=list)
    mean_dvars: float = np.nan  # standardised
    tsnr: float = np.nan  # median over regions, before cleaning
    dummy_scans: int = 0
    censored: float = 0.0  # share of its time points


@dataclass
class CohortQuality:
    """What is known of the quality of a cohort.

    Attributes
    ----------
    scans : list of ScanQuality
    group : ndarray, shape (n_rois, n_rois)
        Mean FC (Fisher z).
    qc_fc : QCFC or None
        Dependence of FC on motion; None if it cannot be told.
    """

    scans: list[ScanQuality]
    group: np.ndarray
    qc_fc: QCFC | None


def connectivity(cohort: Cohort, index: int) -> np.ndarray:
    """Return Fisher z of the correlations of one sample, NaN where a region cannot be used.

    Censored time points are left out.
    """
    series, usable = cohort.store.read(index)
    series = series[:, ~cohort.censored(index)]
    series, usable = Scaler("robust_roi").transform(series, usable)
    matrix = np.full((len(series), len(series)), np.nan, np.float32)
    if usable.sum() > 1 and series.shape[1] > 2:
        centred = series[usable] - series[usable].mean(axis=1, keepdims=True)
        centred /= np.linalg.norm(centred, axis=1, keepdims=True)
        correlations = np.clip(centred @ centred.T, -0.999, 0.999)
        matrix[np.ix_(usable, usable)] = np.arctanh(correlations)
    np.fill_diagonal(matrix, np.nan)
    return matrix


def measure_quality(cohort: Cohort) -> CohortQuality:
    """Return the quality of every sample, the mean FC of the cohort and its tie to motion."""
    count, n_rois = len(cohort), cohort.store.n_rois
    chosen = np.unique(np.linspace(0, count - 1, min(count, _MOST_FOR_GROUP)).astype(int))
    total, seen = np.zeros((n_rois, n_rois)), np.zeros((n_rois, n_rois))
    for index in chosen:
        matrix = connectivity(cohort, int(index))
        known = np.isfinite(matrix)
        total[known] += matrix[known]
        seen += known
    group = np.divide(total, seen, out=np.full_like(total, np.nan), where=seen > 0)
    facts, motion = read_facts(cohort), MotionDependence(n_rois)
    scans = []
    for index in range(count):
        matrix = connectivity(cohort, index)
        scan = _quality(cohort, index, matrix, group, facts[index])
        motion.add(matrix, scan.mean_fd)
        scans.append(scan)
    _flag(scans)
    return CohortQuality(scans, group, motion.result(cohort.atlas.centroids))


def read_facts(cohort: Cohort) -> list[dict[str, Any]]:
    """Return what `fmrilm prepare` noted of every sample, empty if it was made by others."""
    facts = cohort.store.extra("facts")
    return [{}] * len(cohort) if facts is None else [json.loads(str(text)) for text in facts]


def _quality(
    cohort: Cohort, index: int, matrix: np.ndarray, group: np.ndarray, facts: dict[str, Any]
) -> ScanQuality:
    upper = np.triu_indices(len(matrix), 1)
    edges, common = matrix[upper], group[upper]
    known = np.isfinite(edges) & np.isfinite(common)
    likeness = np.nan
    if known.sum() > 2:
        likeness = float(np.corrcoef(edges[known], common[known])[0, 1])
    row = cohort.table.iloc[index]
    coverage = cohort.store.extra("coverage")
    fd = row.get("mean_fd", np.nan)
    return ScanQuality(
        row["subject_id"],
        row["session_id"],
        float(fd) if pd.notna(fd) else np.nan,
        float(coverage[index].mean()) if coverage is not None else np.nan,
        int((~cohort.store.read(index)[1]).sum()),
        likeness,
        mean_dvars=_number(facts.get("mean_dvars")),
        tsnr=_number(facts.get("tsnr")),
        dummy_scans=int(facts.get("dummy_scans", 0)),
        censored=float(cohort.censored(index).mean()),
    )


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _flag(scans: list[ScanQuality]) -> None:
    likeness = np.array([scan.likeness for scan in scans])
    middle = np.nanmedian(likeness)
    spread = 1.4826 * np.nanmedian(np.abs(likeness - middle))
    for scan in scans:
        if scan.mean_fd > LARGE_FD:
            scan.flags.append(f"mean FD {scan.mean_fd:.2f} mm")
        if scan.coverage < LOW_COVERAGE:
            scan.flags.append(f"coverage {scan.coverage:.0%}")
        if not np.isfinite(scan.likeness):
            scan.flags.append("no FC can be computed")
        elif spread > 0 and (middle - scan.likeness) / spread > _FAR and len(scans) > 4:
            scan.flags.append(f"FC unlike the group's (r = {scan.likeness:.2f})")
