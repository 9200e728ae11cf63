"""Scans of one or several cohorts as tensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.reader import ScanReader
from fmrilm.errors import InputError


def _bytes(pair: tuple[Tensor, Tensor]) -> int:
    return sum(part.nbytes for part in pair)


class ScanDataset(Dataset):
    """Scans by position; the same scan may stand at several positions (one per question).

    Parameters
    ----------
    cohorts : sequence of Cohort
    rows : sequence of (int, int)
        Cohort and scan in it, for every position.
    num_timestamp : int
        Time points of an item; longer scans are clipped.
    length : str
        ``clip`` keeps the first time points, ``random_clip`` a random stretch; ``pad``: like
        ``clip``, and shorter scans are filled up with masked zeros.
    cache_gb : float
        Keep scaled scans in memory, 10^9 bytes at most: those that were read last. 0: none.

    Raises
    ------
    InputError
        If a scan is shorter than ``num_timestamp`` and not padded (scans are never stretched), or
        there are no rows.
    """

    def __init__(
        self,
        cohorts: Sequence[Cohort],
        rows: Sequence[tuple[int, int]],
        num_timestamp: int,
        length: str = "clip",
        cache_gb: float = 8.0,
    ) -> None:
        if not rows:
            raise InputError("no scans are left: check the splits and the label columns")
        self.cohorts, self.rows = list(cohorts), list(rows)
        self.num_timestamp, self.length = num_timestamp, length
        self._readers = [ScanReader(cohort, num_timestamp, length) for cohort in self.cohorts]
        self._offsets = np.cumsum([0, *map(len, self.cohorts)]).tolist()
        self._cache: OrderedDict[tuple[int, int], tuple[Tensor, Tensor]] = OrderedDict()
        self._room = int(cache_gb * 1e9)  # bytes

    def __len__(self) -> int:
        return len(self.rows)

    def scan(self, row: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return one whole scaled scan (R, T) and its mask: (R,), or (R, T) if time is masked."""
        if row in self._cache:
            self._cache.move_to_end(row)
            return self._cache[row]
        reader = self._readers[row[0]]
        pair = reader.pad(*reader.whole(row[1]), reader.kept(row[1]))
        self._room -= _bytes(pair)
        self._cache[row] = pair
        while self._room < 0:  # what was read longest ago leaves first
            self._room += _bytes(self._cache.popitem(last=False)[1])
        return pair

    def __getitem__(self, position: int) -> dict[str, Any]:
        series, roi_mask = self.scan(self.rows[position])
        start = 0
        spare = series.shape[1] - self.num_timestamp
        if self.length == "random_clip" and spare:
            start = int(torch.randint(spare + 1, ()))
        chosen = slice(start, start + self.num_timestamp)
        fmri = series[:, chosen]
        if roi_mask.ndim == 2:
            roi_mask = roi_mask[:, chosen]
        scan = self.scan_id(position)
        return {"fmri": fmri, "roi_mask": roi_mask, "position": position, "scan": scan}

    def scan_id(self, position: int) -> int:
        """Return a number that is the same for every dataset over the same cohorts."""
        cohort, index = self.rows[position]
        return self._offsets[cohort] + index
