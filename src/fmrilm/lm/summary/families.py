"""Signal families: what a scan shows beyond the correlation of its regions, in closed form.

Connectivity is blind to who leads whom, to how long a coupling keeps its sign, to the shape of
events and to how they are spread over time. Each family below measures one of these, of parcels
(averages over regions, :func:`parcel_weights`), on two streams: the standardised series x, and
z = S^(-1/2) x with S = (1 - l) C_scan + l C_train, the symmetric root, so that row i is still
parcel i. Whitening by the scan's own covariance takes what connectivity shows out of the others.

============  ===========================================================================
coupling      correlations of x and of z
lag           antisymmetric lagged products x_i(t) x_j(t+k) - x_j(t) x_i(t+k), lags 1, 2, 4
dwell         correlation of x_i(t) x_i(t+k) and x_j(t) x_j(t+k): whether signs change together
spectrum      log power in 8 bands; log variance before the series are standardised
burst         log variance of x(t) x(t+k), and log fourth moment: fluctuation that waxes and wanes
reversal      third moments that change their sign with the direction of time, and skewness
============  ===========================================================================

Tensor letters: B scans, R regions, K parcels, T time points, m (B, T) real time points.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from fmrilm.tokenizer.masks import sample_mask

FAMILIES = ("coupling", "lag", "dwell", "spectrum", "burst", "reversal")
LAGS, DWELLS, DELAYS = (1, 2, 4), (1, 2, 4, 8), (1, 2, 4, 8)
BANDS = 8
SHRINKAGE = 0.3  # l
SMALLEST = 1e-6


def parcel_weights(correlation: np.ndarray, count: int) -> np.ndarray:
    """Average regions over parcels that correlate alike (Ward clusters of the rows).

    Parameters
    ----------
    correlation : ndarray, shape (R, R)
        Mean over training scans.
    count : int
        Parcels K; fewer where there are fewer regions.

    Returns
    -------
    weights : ndarray of float32, shape (K, R)
        Each row sums to 1.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(correlation) <= count:
        return np.eye(len(correlation), dtype=np.float32)
    labels = fcluster(linkage(correlation, "ward"), count, "maxclust")
    weights = (labels == np.arange(1, labels.max() + 1)[:, None]).astype(np.float32)
    return weights / weights.sum(1, keepdims=True)


def parcel_series(fmri: Tensor, roi_mask: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Standardised parcel series (B, K, T), the log SD they had (B, K), and real times (B, T).

    Regions are standardised before they are averaged; absent ones are left out, and a parcel
    without any is zero.

    Parameters
    ----------
    fmri : Tensor, shape (B, R, T)
    roi_mask : Tensor of bool, shape (B, R) or (B, R, T)
    weights : Tensor, shape (K, R)
    """
    real = sample_mask(roi_mask).expand_as(fmri)
    times = real.any(1).to(fmri.dtype)
    usable = real.any(2).to(fmri.dtype)
    x, spread = _standardise(fmri * real, times[:, None])
    x = x * usable[:, :, None]
    share = weights * usable[:, None]  # (B, K, R)
    share = share / share.sum(2, keepdim=True).clamp_min(SMALLEST)
    level = (share @ spread.clamp_min(SMALLEST).log()[..., None])[..., 0]
    return _standardise(share @ x, times[:, None])[0], level, times


def whiten(x: Tensor, times: Tensor, expected: Tensor) -> Tensor:
    """The second stream z (B, K, T).

    Parameters
    ----------
    x : Tensor, shape (B, K, T)
    times : Tensor, shape (B, T)
    expected : Tensor, shape (K, K)
        Mean correlation of the training scans.
    """
    both = (1 - SHRINKAGE) * _mean_product(x, x, times) + SHRINKAGE * expected
    # equal eigenvalues have no gradient: none are, in double precision
    apart = 1e-6 * torch.arange(len(expected), device=x.device, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(both.double() + torch.diag(apart))
    root = vectors * values.clamp_min(1e-4).rsqrt()[:, None] @ vectors.transpose(1, 2)
    return _standardise(root.to(x.dtype) @ x, times[:, None])[0]


def families(x: Tensor, z: Tensor, level: Tensor, times: Tensor) -> dict[str, list[Tensor]]:
    """All measures of scans by family: lists of (B, numbers), one per stream and lag.

    Parameters
    ----------
    x, z : Tensor, shape (B, K, T)
        Both streams.
    level : Tensor, shape (B, K)
        Log SD of the parcels.
    times : Tensor, shape (B, T)
        1 where a time point is real.
    """
    row, column = torch.triu_indices(x.shape[1], x.shape[1], 1, device=x.device)
    measures: dict[str, list[Tensor]] = {name: [] for name in FAMILIES}
    for s in (x, z):
        both = _mean_product(s, s, times)[:, row, column]
        measures["coupling"].append(torch.atanh(both.clamp(-0.999, 0.999)))
        for k in _fitting(LAGS, s):
            now, later, real = s[..., :-k], s[..., k:], times[:, :-k] * times[:, k:]
            moved = _mean_product(now, later, real)
            measures["lag"].append((moved - moved.transpose(1, 2))[:, row, column])
        for k in _fitting(DWELLS, s):
            real = times[:, :-k] * times[:, k:]
            product, _ = _standardise(s[..., :-k] * s[..., k:], real[:, None])
            measures["dwell"].append(_mean_product(product, product, real)[:, row, column])
        measures["spectrum"].append(_spectrum(s).flatten(1))
        measures["burst"].append(_bursts(s, times).flatten(1))
        measures["reversal"].append(_reversal(s, times).flatten(1))
    measures["spectrum"].append(level)
    return measures


def _fitting(lags: tuple[int, ...], s: Tensor) -> list[int]:
    """The lags that leave a series more than two time points."""
    return [k for k in lags if s.shape[-1] - k > 2]


def _spectrum(s: Tensor) -> Tensor:
    power = torch.fft.rfft(s).abs().square()[..., 1:]
    edges = np.linspace(0, power.shape[-1], BANDS + 1).round().astype(int)
    bands = [power[..., a:b].mean(-1) for a, b in pairwise(edges.tolist()) if b > a]
    return (torch.stack(bands, -1) / s.shape[-1] + 1e-4).log()


def _bursts(s: Tensor, times: Tensor) -> Tensor:
    columns = [_mean(s.pow(4), times)]
    for k in (0, *_fitting(LAGS, s)):
        end = s.shape[-1] - k
        real = times[:, :end] * times[:, k:]
        product = s[..., :end] * s[..., k:]
        columns.append(_mean(product.square(), real) - _mean(product, real).square())
    return (torch.stack(columns, -1).clamp_min(0) + 1e-3).log()


def _reversal(s: Tensor, times: Tensor) -> Tensor:
    columns = [_mean(s.pow(3), times)]
    for k in _fitting(DELAYS, s):
        now, later, real = s[..., :-k], s[..., k:], times[:, :-k] * times[:, k:]
        columns.append(_mean((later - now).pow(3), real))
        columns.append(_mean(now.square() * later - now * later.square(), real))
    return torch.stack(columns, -1)


def _mean(s: Tensor, times: Tensor) -> Tensor:
    """Means over real times, (B, K)."""
    return (s * times[:, None]).sum(-1) / times.sum(-1).clamp_min(1)[:, None]


def _mean_product(a: Tensor, b: Tensor, times: Tensor) -> Tensor:
    """Mean over real times of the products of all pairs of rows, (B, K, K)."""
    return (a * times[:, None]) @ b.transpose(1, 2) / times.sum(-1).clamp_min(1)[:, None, None]


def _standardise(s: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of mean 0 and variance 1 over real times, 0 elsewhere, and their SD before (B, K)."""
    count = times.sum(-1, keepdim=True).clamp_min(1)
    s = (s - (s * times).sum(-1, keepdim=True) / count) * times
    spread = (s.square().sum(-1, keepdim=True) / count).clamp_min(SMALLEST**2).sqrt()
    return torch.where(spread > SMALLEST, s / spread, 0.0), spread[..., 0]
