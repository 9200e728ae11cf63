"""From one scan file to the pieces that go into the store."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fmrilm.data.atlas import Atlas
from fmrilm.data.cleaning import Cleaning, clean_series, load_confounds, read_motion
from fmrilm.data.cohorts import CohortInfo
from fmrilm.data.inputs import ScanFile, read_series
from fmrilm.data.resampling import LENGTHS, RESAMPLING, fit_length, resample
from fmrilm.errors import InputError
from fmrilm.registry import suggest

_TR_TOLERANCE = 0.01  # relative difference of two statements of the TR that is not worth a note


@dataclass(frozen=True)
class PrepareSettings:
    """The ``key=value`` options of ``fmrilm prepare``; saved as ``prepare.yaml``."""

    atlas: str = "schaefer400_tianS3"  # a shipped table, or a TSV file with label and name
    atlas_image: str | None = (
        None  # label image, or dlabel.nii for dense CIFTI; None: the built one
    )
    min_coverage: float = 0.5  # a region of which the scan holds less is absent
    strategy: str = "none"  # none | simple | scrubbing | compcor | ica_aroma
    detrend: bool = False  # remove a line from every series
    high_pass: float | None = None  # Hz
    low_pass: float | None = None  # Hz
    t_r: float | None = None  # seconds of the scans; None: sidecar, header, then the cohort's entry
    target_t_r: float = 2.0  # seconds in the store
    resampling: str = "antialias"  # antialias | linear (the original's)
    length: str = "clip"  # keep | clip | random_clip | windows | pad
    n_timepoints: int = 160  # in the store
    seed: int = 0  # of random_clip
    variable: str | None = None  # array to read in MAT files
    bids: dict[str, str] = field(default_factory=dict)  # entities a BIDS file must have

    @property
    def cleaning(self) -> Cleaning:
        """What is removed from the series."""
        return Cleaning(self.strategy, self.detrend, self.high_pass, self.low_pass)


def load_settings(overrides: Sequence[str] = (), path: str | Path | None = None) -> PrepareSettings:
    """Return the settings of a YAML file with ``key=value`` pairs over them.

    Raises
    ------
    InputError
        If a key is unknown or a value is wrong.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    merged: Any = OmegaConf.structured(PrepareSettings)
    known = list(PrepareSettings.__dataclass_fields__)
    layers: list[tuple[str, Any]] = []
    if path is not None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path} not found: give a YAML file of prepare settings")
        layers.append((str(path), OmegaConf.load(path)))
    for pair in overrides:
        key = pair.partition("=")[0].partition(".")[0]
        if "=" not in pair or key not in known:
            raise InputError(
                f"unknown setting {pair!r}{suggest(key, known)}; settings are key=value with: "
                f"{', '.join(known)}"
            )
        layers.append((pair, OmegaConf.from_dotlist([pair])))
    for source, layer in layers:
        try:
            merged = OmegaConf.merge(merged, layer)
        except OmegaConfBaseException as error:
            raise InputError(f"{source}: {str(error).splitlines()[0]}") from None
    settings: Any = OmegaConf.to_object(merged)
    _ = settings.cleaning  # its values are checked when it is made
    for key, value, choices in (
        ("resampling", settings.resampling, RESAMPLING),
        ("length", settings.length, LENGTHS),
    ):
        if value not in choices:
            raise InputError(f"{key} is {value!r}{suggest(value, list(choices))}; use {choices}")
    return settings


@dataclass
class PreparedScan:
    """What the store keeps of one scan.

    Attributes
    ----------
    pieces : list of (str, ndarray)
        Session id and series (n_rois, n_timepoints) of every piece: one, or one per window.
    coverage : ndarray, shape (n_rois,)
    facts : dict
        Columns of ``scans.tsv``: TR, volumes, absent regions, mean FD, notes.
    """

    pieces: list[tuple[str, np.ndarray]]
    coverage: np.ndarray
    facts: dict[str, Any]


def prepare_scan(
    scan: ScanFile, atlas: Atlas, info: CohortInfo, settings: PrepareSettings
) -> PreparedScan:
    """Return one scan parcellated, cleaned, resampled and cut.

    Raises
    ------
    InputError
        If the scan cannot be used, with the reason.
    """
    found = read_series(scan, atlas, settings.atlas_image, settings.min_coverage, settings.variable)
    series, notes = found.series, list(found.notes)
    infinite = ~np.isfinite(series).all(axis=1) & ~np.isnan(series).all(axis=1)
    if infinite.any():
        name = atlas.names[int(np.flatnonzero(infinite)[0])]
        raise InputError(f"{scan.path}: region {name} holds NaN or Inf ({infinite.sum()} regions)")
    present = np.isfinite(series[:, 0])
    constant = present & (np.ptp(np.where(present[:, None], series, 0), axis=1) == 0)
    if constant.any():
        notes.append(f"{constant.sum()} regions constant")
    if not (present & ~constant).any():
        raise InputError(f"{scan.path}: every region is absent or constant")
    volumes = series.shape[1]
    t_r = choose_t_r(scan, found.t_r, info, settings, notes)
    confounds, kept = load_confounds(scan.path, settings.strategy)
    series = clean_series(series, t_r, settings.cleaning, confounds, kept)
    fd = read_motion(scan.confounds, volumes)
    series = resample(series, t_r, settings.target_t_r, settings.resampling)
    seed = settings.seed + zlib.crc32(f"{scan.subject} {scan.session}".encode())
    pieces = fit_length(series, settings.n_timepoints, settings.length, seed)
    if pieces[0].shape[1] < settings.n_timepoints:
        notes.append(f"{pieces[0].shape[1]} time points, fewer than {settings.n_timepoints}")
    names = [scan.session]
    if settings.length == "windows":
        names = [f"{scan.session}_win-{number:02d}" for number in range(1, len(pieces) + 1)]
    facts = {
        "path": str(scan.path),
        "volumes": volumes,
        "t_r": round(t_r, 4),
        "absent_rois": int((~present).sum()),
        "constant_rois": int(constant.sum()),
        "mean_coverage": round(float(found.coverage.mean()), 4),
        "mean_fd": None if fd is None else round(float(fd[1:].mean()), 4),
        "censored": 0 if kept is None else volumes - len(kept),
        "notes": "; ".join(notes),
    }
    arrays = [np.ascontiguousarray(piece, dtype=np.float32) for piece in pieces]
    return PreparedScan(list(zip(names, arrays, strict=True)), found.coverage, facts)


def choose_t_r(
    scan: ScanFile,
    header: float | None,
    info: CohortInfo,
    settings: PrepareSettings,
    notes: list[str],
) -> float:
    """Return the repetition time in seconds; disagreement is added to ``notes``.

    Raises
    ------
    InputError
        If nothing says what it is.
    """
    said = {"setting": settings.t_r, "sidecar": scan.t_r, "header": header}
    known = {source: value for source, value in said.items() if value is not None and value > 0}
    if not known:
        if info.name == "BIDS":
            raise InputError(f"{scan.path}: no header or sidecar gives the TR, set it with t_r=...")
        notes.append(f"TR {info.t_r:g} s from the entry of {info.name}")
        return info.t_r
    source, value = next(iter(known.items()))
    for other, different in known.items():
        if abs(different - value) > _TR_TOLERANCE * value:
            notes.append(f"TR: {source} says {value:g} s (used), {other} {different:g} s")
    return value
