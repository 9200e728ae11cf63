"""Checks of ``doctor`` and ``audit`` on how the scans of a cohort folder were prepared."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from fmrilm.checks.finding import Finding
from fmrilm.cohort.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.signals.dummy_scans import detect_dummy_scans

_SAMPLE = 100  # scans that are read


def check_dummy_scans(cohort: Cohort) -> Iterator[Finding]:
    """Non-steady-state volumes at the start, which make every region correlate with every other."""
    count = len(cohort)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(int)).tolist()
    bright = [index for index in chosen if _dummy_scans(cohort, index)]
    if bright:
        yield Finding(
            "dummy_scans",
            "error",
            f"{cohort.name}: {len(bright)} of {len(chosen)} scans looked at begin with volumes "
            "that are not in the steady state: connectivity is theirs",
            "prepare the scans again with dummy_scans=auto, or the number of volumes",
            [f"{cohort.store.subjects[i]} {cohort.store.sessions[i]}" for i in bright],
        )


def _dummy_scans(cohort: Cohort, index: int) -> int:
    try:
        series, usable = cohort.store.read(index)
    except InputError:
        return 0  # named by another check
    return detect_dummy_scans(series[usable])


def check_denoising(cohort: Cohort) -> Iterator[Finding]:
    """Images from which nothing was regressed."""
    facts = cohort.store.extra("facts")
    if facts is None:
        return
    raw = [i for i, text in enumerate(facts) if json.loads(text).get("strategy") == "none"]
    if raw:
        yield Finding(
            "not_denoised",
            "note",
            f"nothing was regressed from {len(raw)} of {len(facts)} scans: motion and physiology "
            "are in them",
            "prepare with strategy=simple and the confounds of fMRIPrep beside the images",
            [f"{cohort.store.subjects[i]} {cohort.store.sessions[i]}" for i in raw],
        )


def check_censoring(cohort: Cohort) -> Iterator[Finding]:
    """Samples of which little is left beside censored time points."""
    poor = []
    for index in range(len(cohort)):
        censored = cohort.store.censored(index)
        if censored.mean() > 0.5:
            poor.append(
                f"{cohort.store.subjects[index]} {cohort.store.sessions[index]} "
                f"{censored.mean():.0%} censored"
            )
    if poor:
        yield Finding(
            "censored",
            "warning",
            f"more than half of {len(poor)} samples is censored",
            "leave them out, or censor less: confounds.fd_threshold=...",
            poor,
        )


PREPARATION_CHECKS = (check_dummy_scans, check_denoising, check_censoring)
