"""From one scan file to the pieces that go into the store."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmrilm.atlases.atlas import Atlas
from fmrilm.atlases.images import image_space
from fmrilm.config.bounds import check_bounds
from fmrilm.config.layers import merge_layers, open_layers
from fmrilm.config.pairs import read_pair
from fmrilm.errors import InputError
from fmrilm.preparation.denoising.denoise import Cleaning, Nuisance, clean_series, load_nuisance
from fmrilm.preparation.denoising.outliers import place_in_time
from fmrilm.preparation.denoising.regressors import read_confounds
from fmrilm.preparation.sources.read import IMAGES, ScanFile, read_series
from fmrilm.registry import suggest
from fmrilm.signals.dummy_scans import choose_dummy_scans, parse_dummy_scans
from fmrilm.signals.resample import LENGTHS, RESAMPLING, choose_cuts, resample, resample_censored
from fmrilm.signals.timing import check_t_r, settle_t_r
from fmrilm.studies.known import CohortInfo


@dataclass(frozen=True)
class PrepareSettings:
    """The ``key=value`` settings of ``fmrilm prepare``; saved as ``prepare.yaml``.

    Parameters
    ----------
    atlas : str
        A shipped table of regions, or a TSV file with label and name.
    atlas_image : str, optional
        Label image, or dlabel.nii for dense CIFTI; None: the one that `fmrilm atlas` built.
    min_coverage : float
        A region of which the scan holds a smaller share is absent.
    dummy_scans : str
        Volumes dropped at the start: a number, or auto (fMRIPrep's columns, else seen in the
        signal).
    strategy : str
        What is regressed out: auto (simple where confounds lie beside the scans), none, simple,
        scrubbing, compcor, ica_aroma or custom.
    confounds : dict
        Keywords of nilearn's load_confounds, and columns: confounds.motion=full,
        confounds.columns=[csf,white_matter].
    detrend : bool
        Remove a line from every series.
    high_pass, low_pass : float, optional
        Band of the filter in Hz.
    t_r : float, optional
        Repetition time of the scans in s; None: sidecar, header, then the cohort's entry.
    target_t_r : float
        Repetition time in the store in s.
    resampling : str
        antialias or linear (the original's).
    length : str
        What becomes of other lengths: keep, clip, random_clip, windows or pad.
    n_timepoints : int
        Time points of a scan in the store.
    seed : int
        Random seed for random_clip.
    variable : str, optional
        Array to read in MAT files.
    bids : dict
        Entities that a file name must have: bids.space=MNI152NLin6Asym.
    """

    atlas: str = "schaefer400_tianS3"
    atlas_image: str | None = None
    min_coverage: float = 0.5
    dummy_scans: str = "auto"
    strategy: str = "auto"
    confounds: dict[str, Any] = field(default_factory=dict)
    detrend: bool = False
    high_pass: float | None = None
    low_pass: float | None = None
    t_r: float | None = None
    target_t_r: float = 2.0
    resampling: str = "antialias"
    length: str = "clip"
    n_timepoints: int = 160
    seed: int = 0
    variable: str | None = None
    bids: dict[str, str] = field(default_factory=dict)

    @property
    def cleaning(self) -> Cleaning:
        """What is removed from the series."""
        return Cleaning(self.strategy, self.detrend, self.high_pass, self.low_pass, self.confounds)


_BOUNDS = {
    "min_coverage": (0.0, 1.0),
    "high_pass": (0.0, 10.0),
    "low_pass": (1e-12, 10.0),
    "n_timepoints": (2, 1_000_000),
    "seed": (0, 2**32 - 1),
}


def load_settings(overrides: Sequence[str] = (), path: str | Path | None = None) -> PrepareSettings:
    """Return the settings of a YAML file with ``key=value`` pairs over them.

    Raises
    ------
    InputError
        If a key is unknown or a value is wrong.
    """
    known = list(PrepareSettings.__dataclass_fields__)
    layers = [] if path is None else open_layers(path)
    for pair in overrides:
        key = pair.partition("=")[0].partition(".")[0]
        if "=" not in pair or key not in known:
            raise InputError(
                f"unknown setting {pair!r}{suggest(key, known)}; settings are key=value with: "
                f"{', '.join(known)}"
            )
        layers.append((pair, read_pair(pair, ("atlas", "atlas_image", "variable"))))
    settings: PrepareSettings = merge_layers(PrepareSettings, layers)
    check_bounds(settings, _BOUNDS)
    _ = settings.cleaning  # its values are checked when it is made
    parse_dummy_scans(settings.dummy_scans)
    for name in ("t_r", "target_t_r"):
        if getattr(settings, name) is not None:
            check_t_r(name, getattr(settings, name))
    for key, value, choices in (
        ("resampling", settings.resampling, RESAMPLING),
        ("length", settings.length, LENGTHS),
    ):
        if value not in choices:
            raise InputError(f"{key} is {value!r}{suggest(value, list(choices))}; use {choices}")
    return settings


@dataclass(frozen=True)
class Piece:
    """One sample of the store: a scan, or a window of one."""

    session: str
    series: np.ndarray  # (n_rois, n_timepoints) float32
    censored: np.ndarray  # (n_timepoints,) bool: interpolated, to be masked


@dataclass
class PreparedScan:
    """What the store keeps of one scan.

    Attributes
    ----------
    pieces : list of Piece
        One, or one per window.
    coverage : ndarray, shape (n_rois,)
    facts : dict
        Columns of ``scans.tsv``: TR, volumes, absent regions, mean FD, notes.
    """

    pieces: list[Piece]
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
    notes = [*found.notes, *_space_note(scan, settings.atlas_image)]
    series, kept = place_in_time(found.series, scan, notes)
    present, constant = _usable(series, scan, atlas, notes)
    volumes = series.shape[1]
    t_r = choose_t_r(scan, found.t_r, info, settings, notes)
    table = read_confounds(scan.confounds, volumes)
    start, note = choose_dummy_scans(settings.dummy_scans, table, series)
    notes += [note] if note else []
    nuisance = load_nuisance(scan.path, scan.confounds, table, volumes, settings.cleaning)
    if nuisance.strategy == "none" and settings.strategy == "auto" and _is_image(scan):
        notes.append("nothing regressed: no table of confounds beside the image")
    nuisance = Nuisance(nuisance.strategy, nuisance.table, nuisance.kept & kept).after(start)
    series = series[:, start:]
    quality = _quality(series, scan, table, start, volumes)
    series = _clean(series, t_r, settings.cleaning, nuisance)
    series = resample(series, t_r, settings.target_t_r, settings.resampling)
    censored = resample_censored(~nuisance.kept, t_r, settings.target_t_r)
    seed = settings.seed + zlib.crc32(f"{scan.subject} {scan.session}".encode())
    cuts = choose_cuts(series.shape[1], settings.n_timepoints, settings.length, seed)
    pieces = [
        Piece(name, np.ascontiguousarray(series[:, cut], dtype=np.float32), censored[cut])
        for name, cut in zip(_piece_names(scan, settings, len(cuts)), cuts, strict=True)
    ]
    length = pieces[0].series.shape[1]
    if length < settings.n_timepoints:
        notes.append(f"{length} time points, fewer than {settings.n_timepoints}")
    facts = {
        "path": str(scan.path),
        "volumes": volumes,
        "dummy_scans": start,
        "t_r": round(t_r, 4),
        "absent_rois": int((~present).sum()),
        "constant_rois": int(constant.sum()),
        "mean_coverage": round(float(found.coverage.mean()), 4),
        **quality,
        "strategy": nuisance.strategy if _is_image(scan) or nuisance.summary else "n/a",
        "regressed": nuisance.summary,
        "censored": int((~nuisance.kept).sum()),
        "notes": "; ".join(notes),
    }
    return PreparedScan(pieces, found.coverage, facts)


def _is_image(scan: ScanFile) -> bool:
    """Whether nobody has cleaned the scan yet, as far as its name tells."""
    name = scan.path.name
    return name.endswith(IMAGES) and "ptseries" not in name and "desc-denoised" not in name


def _space_note(scan: ScanFile, atlas_image: str | None) -> list[str]:
    """Return the note that scan and atlas are in different templates, if their names say so."""
    own = image_space(scan.path)
    atlas = None if atlas_image is None else image_space(Path(atlas_image))
    if not scan.path.name.endswith(IMAGES) or not (own and atlas) or own == atlas:
        return []
    if not own.startswith("MNI"):  # surfaces
        return []
    return [
        f"image in {own}, atlas in {atlas}, some mm apart: give atlas_image= in {own} "
        f"(TemplateFlow: tpl-{own}), or choose bids.space={atlas}"
    ]


def _usable(
    series: np.ndarray, scan: ScanFile, atlas: Atlas, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return which regions are present, and which of them are constant."""
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
    return present, constant


def _clean(series: np.ndarray, t_r: float, cleaning: Cleaning, nuisance: Nuisance) -> np.ndarray:
    kept = None if nuisance.kept.all() else np.flatnonzero(nuisance.kept)
    table = None if nuisance.table is None else nuisance.table.to_numpy(float)
    return clean_series(series, t_r, cleaning, table, kept)


def _piece_names(scan: ScanFile, settings: PrepareSettings, count: int) -> list[str]:
    if settings.length != "windows":
        return [scan.session]
    return [f"{scan.session}_win-{number:02d}" for number in range(1, count + 1)]


def _quality(
    series: np.ndarray, scan: ScanFile, table: pd.DataFrame | None, start: int, volumes: int
) -> dict[str, float | None]:
    """Return mean FD and DVARS without the dummy scans, and the median tSNR of the regions.

    tSNR is that of the regions' mean series before cleaning; None of series without a mean.
    """
    motion = table if table is not None else read_confounds(scan.motion, volumes)
    columns = {"mean_fd": "framewise_displacement", "mean_dvars": "std_dvars"}
    found: dict[str, float | None] = {}
    for name, column in columns.items():
        values = None if motion is None or column not in motion else motion[column].iloc[start:]
        # The first volume has no predecessor: n/a, or zero.
        found[name] = None if values is None else _rounded(values.iloc[1:].mean())
    rows = series[np.isfinite(series[:, 0])]
    spread = rows.std(axis=1)
    rows, spread = rows[spread > 0], spread[spread > 0]
    tsnr = float(np.median(np.abs(rows.mean(axis=1)) / spread))
    found["tsnr"] = _rounded(tsnr) if tsnr > 1 else None
    return found


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


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
        If nothing says what it is, or what is said makes no sense.
    """
    own = "store" if scan.index is not None else "header"
    said = {"setting": settings.t_r, "sidecar": scan.t_r, own: header}
    known = {source: value for source, value in said.items() if value is not None and value > 0}
    if not known:
        if info.name == "BIDS":
            raise InputError(f"{scan.path}: no header or sidecar gives the TR, set it with t_r=...")
        notes.append(f"TR {info.t_r:g} s from the entry of {info.name}")
        check_t_r(f"{info.name}: t_r", info.t_r)
        return info.t_r
    _, value, more = settle_t_r(known, scan.path)
    notes += more
    return value
