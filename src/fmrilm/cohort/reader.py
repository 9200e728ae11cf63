"""THE reader of scans: what a model, a baseline or a figure is given of a scan is read here.

Scaled by the cohort, masked regions zero, clipped to its start, padded with masked zeros where that
is asked for; time points over censored volumes are masked zeros too. Letters: B scans, R regions,
T time points that are measured, N ``num_timestamp``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fmrilm.cohort.cohort import Cohort, check_length
from fmrilm.signals.resample import pad_time

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ScanReader:
    """Reads the scans of one cohort as a model of ``num_timestamp`` time points is given them.

    Parameters
    ----------
    cohort : Cohort
    num_timestamp : int
    length : str
        ``data.length``; ``pad``: scans that are too short are padded, otherwise refused.
    """

    cohort: Cohort
    num_timestamp: int
    length: str = "clip"

    def whole(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return all time points of a scan (R, T), and its mask of usable regions (R,).

        Raises
        ------
        InputError
            If it is shorter than ``num_timestamp`` and not to be padded.
        """
        series, roi_mask = self.cohort.read(int(index))
        check_length(self.cohort, int(index), series.shape[1], self.num_timestamp, self.length)
        if not roi_mask.all():
            series = np.where(roi_mask[:, None], series, np.float32(0))
        return series, roi_mask

    def clip(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the measured part of what the model reads (R, T <= N), and the mask (R,)."""
        series, roi_mask = self.whole(index)
        return series[:, : self.num_timestamp], roi_mask

    def kept(self, index: int) -> np.ndarray | None:
        """Return the time points of a scan that are not censored, (T,); None: all of them."""
        censored = self.cohort.censored(int(index))
        return ~censored if censored.any() else None

    def pad(
        self, series: np.ndarray, roi_mask: np.ndarray, kept: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor]:
        """A scan as tensors, padded to at least N time points; see :func:`pad_scan`."""
        return pad_scan(series, roi_mask, self.num_timestamp, kept)

    def batch(
        self,
        indices: Sequence[int],
        alter: Callable[[np.ndarray, int], np.ndarray] = lambda series, index: series,
    ) -> tuple[Tensor, Tensor]:
        """Return scans (B, R, N) and masks, (B, R) or (B, R, N) where some are padded.

        Parameters
        ----------
        indices : sequence of int
        alter : callable, optional
            Given the measured part of a scan and its index, returns what is read instead.
        """
        import torch

        scans = []
        for index in indices:
            series, roi_mask = self.clip(index)
            scans.append(self.pad(alter(series, int(index)), roi_mask, self.kept(index)))
        return (
            torch.stack([series for series, _ in scans]).float(),
            stack_masks([mask for _, mask in scans]),
        )


def pad_scan(
    series: np.ndarray,
    roi_mask: np.ndarray,
    num_timestamp: int,
    kept: np.ndarray | None = None,
) -> tuple[Tensor, Tensor]:
    """A scan (R, T) and its mask as tensors, padded to at least ``num_timestamp`` time points.

    Parameters
    ----------
    series : ndarray, shape (R, T)
    roi_mask : ndarray of bool, shape (R,)
    num_timestamp : int
    kept : ndarray of bool, shape (at least T,), optional
        Time points that are not censored.

    Returns
    -------
    series : Tensor
    mask : Tensor of bool
        (R,), or that of the series where it was padded or some of it is censored.
    """
    import torch

    if kept is not None:
        roi_mask = roi_mask[:, None] & kept[: series.shape[1]]
        series = np.where(roi_mask, series, np.float32(0))
    if series.shape[1] < num_timestamp:
        series, real = pad_time(series, num_timestamp)
        if roi_mask.ndim == 2:
            roi_mask = np.pad(roi_mask, ((0, 0), (0, len(real) - roi_mask.shape[1])))
        else:
            roi_mask = roi_mask[:, None] & real
    return torch.from_numpy(series), torch.from_numpy(roi_mask)


def stack_masks(masks: Sequence[Tensor]) -> Tensor:
    """Return masks of scans as one: (B, R), or (B, R, N) where at least one has a mask in time."""
    import torch

    padded = [mask for mask in masks if mask.ndim == 2]
    if not padded:
        return torch.stack(list(masks))
    return torch.stack([m if m.ndim == 2 else m[:, None].expand_as(padded[0]) for m in masks])
