"""Group spatial ICA of region series, in memory of n_rois squared however many scans there are.

The group's principal components are the eigenvectors of the mean correlation matrix: exactly
those of all scans' standardised series put one behind the other. Independent spatial maps come
from them by FastICA (Hyvarinen & Oja 2000, Neural Networks 13, 411); a scan's time courses from
the maps by least squares, the first step of dual regression (Nickerson et al. 2017).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np

from fmrilm.descriptors.connectivity import standardise
from fmrilm.descriptors.measures.scans import training_scans

N_STARTS = 10


def group_maps(covariance: np.ndarray, n_components: int, seed: int = 0) -> np.ndarray:
    """Return independent spatial maps, shape (n_components, n_rois).

    Parameters
    ----------
    covariance : ndarray, shape (n_rois, n_rois)
        Mean correlation matrix of the training scans.
    n_components : int
        At most n_rois - 1.
    seed : int
        Of the start of FastICA.

    Notes
    -----
    Each map has unit variance over regions, and its largest entry is positive.
    """
    values, vectors = np.linalg.eigh(covariance)
    rank = int((values > 1e-9 * values[-1]).sum())
    basis = vectors[:, ::-1][:, : min(n_components, rank)].T  # (n_components, n_rois)
    rotation = _fast_ica(_whiten(basis), seed)
    maps = rotation @ _whiten(basis)
    maps /= maps.std(axis=1, keepdims=True)
    largest = np.abs(maps).argmax(axis=1)
    maps *= np.sign(maps[np.arange(len(maps)), largest])[:, None]
    return maps


def _whiten(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(centred @ centred.T / rows.shape[1])
    keep = values > 1e-9 * values[-1]
    return (vectors[:, keep] / np.sqrt(values[keep])).T @ centred


def _fast_ica(rows: np.ndarray, seed: int) -> np.ndarray:
    """Return the rotation that makes whitened rows most non-Gaussian, the best of ten starts.

    The contrast is kurtosis: with hundreds of regions, not thousands of voxels, it finds sparse
    maps where the usual tanh stops at sums and differences of them.
    """
    rng = np.random.default_rng(seed)
    starts = [_orthogonal(rng.normal(size=(len(rows), len(rows)))) for _ in range(N_STARTS)]
    rotations = [_climb(rows, start) for start in starts]
    return max(rotations, key=lambda rotation: _contrast(rotation @ rows))


def _climb(rows: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return the rotation that symmetric FastICA reaches from one start."""
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    # whitening stays ours: scikit-learn's would rescale what is white already
    ica = FastICA(whiten=False, fun="cube", max_iter=500, tol=1e-6, w_init=start)
    with warnings.catch_warnings():  # a start that still moves loses by its contrast
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ica.fit(rows.T).components_


def _contrast(sources: np.ndarray) -> float:
    """Return the sum of squared excess kurtosis."""
    return float((((sources**4).mean(axis=1) - 3) ** 2).sum())


def _orthogonal(matrix: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(matrix)
    return left @ right


def time_courses(
    series: np.ndarray, maps: np.ndarray, kept: np.ndarray | None = None
) -> np.ndarray:
    """The time course of each map in a scan, shape (n_components, n_timepoints).

    Parameters
    ----------
    series : ndarray, shape (n_usable, n_timepoints)
        Standardised here: each region counts the same.
    maps : ndarray, shape (n_components, n_usable)
    kept : ndarray of bool, shape (n_timepoints,), optional
        Time points that the regions' means and standard deviations are of.
    """
    measured = series if kept is None else series[:, kept]
    rows = (series - measured.mean(axis=1, keepdims=True)) / measured.std(axis=1, keepdims=True)
    design = np.column_stack((maps.T, np.ones(maps.shape[1])))  # the constant takes the mean
    return np.linalg.lstsq(design, rows, rcond=None)[0][:-1]


def label_components(maps: np.ndarray, members: np.ndarray) -> list[list[int]]:
    """Return, for each network, the components that belong to it.

    A component belongs to the network whose regions it weighs most (highest correlation of |map|
    with membership); a network that gets none that way takes the component that fits it best.

    Parameters
    ----------
    maps : ndarray, shape (n_components, n_rois)
    members : ndarray, shape (n_networks, n_rois)
    """
    size = np.abs(maps) - np.abs(maps).mean(axis=1, keepdims=True)
    inside = members - members.mean(axis=1, keepdims=True)
    lengths = np.outer(np.linalg.norm(size, axis=1), np.linalg.norm(inside, axis=1))
    fit = (size @ inside.T) / np.where(lengths > 0, lengths, np.inf)  # (n_components, n_networks)
    best = fit.argmax(axis=1)
    return [
        np.flatnonzero(best == k).tolist() or [int(fit[:, k].argmax())] for k in range(len(members))
    ]


def mean_correlation(
    scans: Iterable[np.ndarray], n_rois: int, min_timepoints: int
) -> np.ndarray | None:
    """Return the mean correlation over scans; None without a usable scan.

    A region that a scan lacks counts as uncorrelated in that scan, so the result stays a
    covariance.
    """
    total = np.zeros((n_rois, n_rois))
    count = 0
    for series, usable, kept in training_scans(scans, n_rois, 2, min_timepoints):
        rows = np.zeros((n_rois, kept.sum()))
        rows[usable] = standardise(series[np.ix_(usable, kept)])
        total += rows @ rows.T
        count += 1
    return total / count if count else None
