"""Scans of one or several cohorts as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fmrilm.data.cohort import Cohort, check_length
from fmrilm.data.resampling import pad_time
from fmrilm.errors import InputError


def pad_scan(series: np.ndarray, roi_mask: np.ndarray, num_timestamp: int) -> tuple[Tensor, Tensor]:
    """Return series (R, T >= num_timestamp) and mask: (R,), or (R, T) if zeros had to be added."""
    if series.shape[1] < num_timestamp:
        series, real = pad_time(series, num_timestamp)
        roi_mask = roi_mask[:, None] & real
    return torch.from_numpy(series), torch.from_numpy(roi_mask)


def stack_masks(masks: Sequence[Tensor]) -> Tensor:
    """Return masks of scans as one: (B, R), or (B, R, T) where at least one scan is padded."""
    padded = [mask for mask in masks if mask.ndim == 2]
    if not padded:
        return torch.stack(list(masks))
    return torch.stack([m if m.ndim == 2 else m[:, None].expand_as(padded[0]) for m in masks])


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
    cache : bool
        Keep scaled scans in memory.

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
        cache: bool = True,
    ) -> None:
        if not rows:
            raise InputError("no scans are left: check the splits and the label columns")
        self.cohorts, self.rows = list(cohorts), list(rows)
        self.num_timestamp, self.length = num_timestamp, length
        self._offsets = np.cumsum([0, *map(len, self.cohorts)]).tolist()
        self._cache: dict[tuple[int, int], tuple[Tensor, Tensor]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.rows)

    def scan(self, row: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return one whole scaled scan (R, T) and its mask, (R,) or (R, T) where it is padded."""
        if self._cache is not None and row in self._cache:
            return self._cache[row]
        cohort, index = self.cohorts[row[0]], row[1]
        series, roi_mask = cohort.read(index)
        check_length(cohort, index, series.shape[1], self.num_timestamp, self.length)
        pair = pad_scan(series, roi_mask, self.num_timestamp)
        if self._cache is not None:
            self._cache[row] = pair
        return pair

    def __getitem__(self, position: int) -> dict[str, Any]:
        series, roi_mask = self.scan(self.rows[position])
        start = 0
        spare = series.shape[1] - self.num_timestamp
        if self.length == "random_clip" and spare:
            start = int(torch.randint(spare + 1, ()))
        fmri = series[:, start : start + self.num_timestamp]
        scan = self.scan_id(position)
        return {"fmri": fmri, "roi_mask": roi_mask, "position": position, "scan": scan}

    def scan_id(self, position: int) -> int:
        """Return a number that is the same for every dataset over the same cohorts."""
        cohort, index = self.rows[position]
        return self._offsets[cohort] + index
