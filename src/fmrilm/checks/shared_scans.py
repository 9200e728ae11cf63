"""Scans that are in two splits: windows that share volumes, and copies of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import combinations
from operator import add

import numpy as np

from fmrilm.checks.finding import Finding
from fmrilm.cohort.cohort import Cohort
from fmrilm.lineage.fingerprints import Fingerprints, find_copies

_SHARED_VOLUMES = 5  # identical volumes that make two samples overlap


class _Scans:
    """All scans of several cohorts, numbered through."""

    def __init__(self, cohorts: list[Cohort]) -> None:
        self.places = [(cohort, index) for cohort in cohorts for index in range(len(cohort))]
        self.splits = [str(cohort.table["split"].iloc[i]) for cohort, i in self.places]

    def name(self, scan: int) -> str:
        """Return cohort, subject, session and split of a scan."""
        cohort, index = self.places[scan]
        row = cohort.table.iloc[index]
        return f"{cohort.name} {row['subject_id']} {row['session_id']} ({row['split']})"

    def raw(self, scan: int) -> np.ndarray:
        """Return the series of a scan as they lie in the store."""
        cohort, index = self.places[scan]
        return cohort.store.raw(index)


def check_overlap(cohorts: list[Cohort]) -> Iterator[Finding]:
    """Samples of different splits that share content: overlapping windows, copies under new ids."""
    scans = _Scans(cohorts)
    shared = _shared_volumes(scans)
    if shared:
        yield Finding(
            "overlap",
            "error",
            f"{len(shared)} pairs of samples in different splits share volumes",
            "give windows of one scan, and copies of a scan, to the same subject and split",
            [f"{scans.name(one)} / {scans.name(two)}" for one, two in shared],
        )
    copies = _copies(scans, cohorts, set(shared))
    if copies:
        yield Finding(
            "copy",
            "error",
            f"{len(copies)} pairs of samples in different splits are copies but for scale, mean, "
            "rounding or noise",
            "remove the copies, or give them the same subject and split",
            [f"{scans.name(one)} / {scans.name(two)}" for one, two in copies],
        )


def _copies(
    scans: _Scans, cohorts: list[Cohort], known: set[tuple[int, int]]
) -> list[tuple[int, int]]:
    copies = []
    starts = np.cumsum([0, *(len(cohort) for cohort in cohorts)])
    prints = [Fingerprints.of(cohort.store, range(len(cohort))) for cohort in cohorts]
    for size in sorted({part.n_rois for part in prints}):
        chosen = [number for number, part in enumerate(prints) if part.n_rois == size]
        every = reduce(add, (prints[number] for number in chosen))
        position = np.concatenate([np.arange(starts[n], starts[n + 1]) for n in chosen])

        def raw(scan: int, position: np.ndarray = position) -> np.ndarray:
            return scans.raw(int(position[scan]))

        def asked(one: int, two: int, position: np.ndarray = position) -> bool:
            pair = (int(position[one]), int(position[two]))
            return scans.splits[pair[0]] != scans.splits[pair[1]] and pair not in known

        copies += [(int(position[i]), int(position[j])) for i, j in find_copies(every, raw, asked)]
    return copies


def _shared_volumes(scans: _Scans) -> list[tuple[int, int]]:
    """Return the pairs of scans in different splits that have equal volumes."""
    marks = [_volume_marks(scans.raw(scan)) for scan in range(len(scans.places))]
    if not marks:
        return []
    flat = np.concatenate(marks)
    owner = np.repeat(np.arange(len(marks)), [len(part) for part in marks])
    order = np.argsort(flat, kind="stable")
    flat, owner = flat[order], owner[order]
    shared: dict[tuple[int, int], int] = {}
    edges = np.flatnonzero(np.diff(flat)) + 1
    for group in np.split(owner, edges):
        members = sorted(set(group.tolist())) if len(group) > 1 else []
        for one, two in combinations(members, 2):
            if scans.splits[one] != scans.splits[two]:
                shared[one, two] = shared.get((one, two), 0) + 1
    return [pair for pair, count in shared.items() if count >= _SHARED_VOLUMES]


def _volume_marks(series: np.ndarray) -> np.ndarray:
    """Return a number per volume that is equal for equal volumes; absent regions do not count."""
    bits = np.ascontiguousarray(np.nan_to_num(series)).view(np.uint32).astype(np.uint64)
    varies = np.ptp(np.nan_to_num(series), axis=1) > 0
    if not varies.any():
        return np.zeros(0, np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, len(series), dtype=np.uint64) | 1
    return (bits[varies] * factors[varies, None]).sum(axis=0, dtype=np.uint64)
