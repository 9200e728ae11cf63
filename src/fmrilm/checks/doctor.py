"""``fmrilm doctor``: what is wrong with a scan or a store, and what to do about it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from fmrilm.atlases.atlas import Atlas
from fmrilm.atlases.images import load_atlas
from fmrilm.checks.finding import Finding, show
from fmrilm.checks.labels import LABEL_CHECKS
from fmrilm.checks.preparation import PREPARATION_CHECKS
from fmrilm.checks.rules import CHECKS, Content
from fmrilm.cohort.cohort import STORE_FILE, Cohort
from fmrilm.cohort.scaling import Scaler
from fmrilm.errors import InputError
from fmrilm.preparation.sources.parcellate import load_image
from fmrilm.preparation.sources.read import ScanFile, read_series
from fmrilm.signals.dummy_scans import detect_dummy_scans
from fmrilm.signals.timing import settle_t_r, sidecar_t_r


def doctor(
    path: str,
    *,
    atlas: str = "schaefer400_tianS3",
    atlas_image: str | None = None,
    checkpoint: str | None = None,
    t_r: float = 2.0,
    n_timepoints: int = 160,
    json: bool = False,
) -> int:
    """Say what is wrong with a scan or a cohort folder, and how to put it right.

    Parameters
    ----------
    path : str
        A scan (NIfTI, CIFTI, table), a cohort folder, or its HDF5 store.
    atlas : str
        For a scan: a shipped atlas or a TSV file.
    atlas_image : str, optional
        For a scan: label image of the atlas.
    checkpoint : str, optional
        Run folder or normalization_params.npz of the model that is to read it.
    t_r : float
        Seconds between time points that the model expects.
    n_timepoints : int
        Time points that the model expects.
    json : bool
        Print JSON instead of a table.

    Returns
    -------
    exit_code : int
        0 if all is well (notes do not count), else 1.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder.

    Examples
    --------
    fmrilm doctor data/UKB
    """
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"{place} not found: give a scan, a cohort folder or its store")
    if place.name == STORE_FILE:
        place = place.parent
    if place.is_dir():
        findings = examine_cohort(place, _reference(checkpoint), t_r, n_timepoints)
    else:
        findings = examine_scan(place, load_atlas(atlas), atlas_image, t_r, n_timepoints)
    return show(findings, str(path), json)


def examine_cohort(
    folder: Path, reference: Scaler | None = None, t_r: float = 2.0, n_timepoints: int = 160
) -> list[Finding]:
    """Return the findings on a cohort folder.

    Parameters
    ----------
    folder : Path
    reference : Scaler, optional
        Scaling statistics of the model that is to read it.
    t_r : float
        Seconds the model expects.
    n_timepoints : int
        Length the model expects.
    """
    try:
        # Global scaling is fitted when the cohort is opened; a broken scan must not stop that here.
        cohort = Cohort(folder, "none", packed=False)
    except InputError as error:
        return [Finding("folder", "error", str(error), "correct the folder; see the message")]
    try:
        _ = cohort.atlas
    except InputError as error:
        return [Finding("atlas", "error", str(error), "put the right atlas.tsv into the folder")]
    content = Content.read(cohort, t_r, n_timepoints, reference)
    if not content.broken:
        cohort = Cohort(folder, packed=False)
        content = dataclasses.replace(content, cohort=cohort)
    findings = [finding for check in CHECKS for finding in check(content)]
    checks = (*LABEL_CHECKS, *PREPARATION_CHECKS)
    return findings + [finding for check in checks for finding in check(content.cohort)]


def _reference(checkpoint: str | None) -> Scaler | None:
    if checkpoint is None:
        return None
    path = Path(checkpoint)
    path = path / "normalization_params.npz" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: give a run folder or normalization_params.npz")
    return Scaler.load(path)


def examine_scan(
    path: Path,
    atlas: Atlas,
    atlas_image: str | None = None,
    t_r: float = 2.0,
    n_timepoints: int = 160,
) -> list[Finding]:
    """Return the findings on one scan: what `fmrilm prepare` would do, and what it cannot do."""
    scan = ScanFile("scan", "1", path, t_r=sidecar_t_r(path))
    try:
        found = read_series(scan, atlas, atlas_image)
    except InputError as error:
        return [Finding("unreadable", "error", str(error), "see the message")]
    findings = [*_space(path), *_timing(scan, found.t_r, found.series.shape[1], t_r, n_timepoints)]
    dummies = detect_dummy_scans(found.series)
    if dummies:
        findings.append(
            Finding(
                "dummy_scans",
                "note",
                f"the first {dummies} volumes are not in the steady state",
                "nothing to do: `fmrilm prepare` drops them (dummy_scans=auto, or a number)",
            )
        )
    names = [f"{label} {name}" for label, name in zip(atlas.labels, atlas.names, strict=True)]
    absent = np.flatnonzero(np.isnan(found.series[:, 0]))
    if len(absent):
        findings.append(
            Finding(
                "missing_regions",
                "warning",
                f"{len(absent)} of {len(atlas)} regions are absent: too little is in the scan",
                "they will be masked; check the field of view and the registration to MNI space",
                [names[row] for row in absent],
            )
        )
    thin = np.flatnonzero((found.coverage < 0.7) & ~np.isnan(found.series[:, 0]))
    if len(thin):
        findings.append(
            Finding(
                "thin_regions",
                "note",
                f"of {len(thin)} regions less than 70% lies in the scan",
                "raise min_coverage to mask them",
                [f"{names[row]} {found.coverage[row]:.0%}" for row in thin],
            )
        )
    return findings


def _space(path: Path) -> list[Finding]:
    if not path.name.endswith((".nii", ".nii.gz")) or "series.nii" in path.name:
        return []
    header = load_image(path).header
    codes = {int(header["sform_code"]), int(header["qform_code"])}
    if codes & {3, 4} or "space-MNI" in path.name:
        return []
    return [
        Finding(
            "space",
            "note",
            "neither the header nor the file name says that the scan is in MNI space",
            "make sure it was normalised to MNI152NLin6Asym",
        )
    ]


def _timing(
    scan: ScanFile, header: float | None, volumes: int, target: float, wanted: int
) -> list[Finding]:
    said = {"sidecar": scan.t_r, "header": header}
    statements = {source: value for source, value in said.items() if value is not None}
    if not statements:
        return [
            Finding("t_r_unknown", "error", "no header or sidecar gives the TR", "set t_r=SECONDS")
        ]
    try:
        _, known, notes = settle_t_r(statements, scan.path)
    except InputError as error:
        return [Finding("t_r", "error", str(error), "give `fmrilm prepare` t_r=SECONDS")]
    found = [
        Finding(
            "t_r_disagrees",
            "warning",
            note,
            "find out which is right and set t_r=SECONDS",
        )
        for note in notes
    ]
    length = int((volumes - 1) * known / target + 1e-9) + 1
    if abs(known - target) > 0.01:
        found.append(
            Finding(
                "resampled",
                "note",
                f"{volumes} volumes of {known:g} s become {length} of {target:g} s",
                "nothing to do: `fmrilm prepare` resamples with anti-aliasing",
            )
        )
    if length < wanted:
        found.append(
            Finding(
                "short",
                "error",
                f"{length} time points after resampling, the model expects {wanted}",
                "use length=pad (masked), or a model with a smaller num_timestamp",
            )
        )
    return found
