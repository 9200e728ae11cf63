"""Which regions an answer rests on: integrated gradients and occlusion.

Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) along the straight path from a
reference scan. The reference of a long scan is the scan itself with its phases randomised, not a
blank one: a model that reads correlations does not change when a scan is merely scaled down.
``B`` scans, ``R`` regions, ``T`` time points.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmrilm.evaluation.baselines.features import SHORT
from fmrilm.evaluation.controls import randomise_phases

if TYPE_CHECKING:
    import torch

Target = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]  # (B, R, T), (B, R) -> (B,)


def integrated_gradients(
    target: Target, fmri: np.ndarray, roi_mask: np.ndarray, reference: np.ndarray, steps: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Return each region's share of the change from the reference to the scan, and that change.

    Parameters
    ----------
    target : callable
    fmri, reference : ndarray, shape (B, R, T)
    roi_mask : ndarray of bool, shape (B, R) or (B, R, T)
    steps : int
        Points on the path (midpoint rule).

    Returns
    -------
    shares : ndarray, shape (B, R)
        Their sum is the change, up to the error of the sum over steps.
    change : ndarray, shape (B,)
    """
    import torch

    end, start = torch.from_numpy(fmri).float(), torch.from_numpy(reference).float()
    mask = torch.from_numpy(roi_mask)
    total = torch.zeros_like(end)
    for step in range(steps):
        point = (start + (step + 0.5) / steps * (end - start)).requires_grad_(True)
        [gradient] = torch.autograd.grad(target(point, mask).sum(), point)
        total += gradient / steps
    # asked for with gradients: the function that they are of is smooth, quantized numbers are not
    ends = [target(point.requires_grad_(True), mask).detach() for point in (end, start)]
    shares = ((end - start).detach() * total).sum(2)
    return shares.cpu().numpy(), (ends[0] - ends[1]).cpu().numpy()


def reference_scan(series: np.ndarray, seed: int, reads_correlations: bool = False) -> np.ndarray:
    """Return what a scan (R, T) is compared with: phases randomised, or zero for a short one.

    A model that is given the regions' correlations gets randomised phases at any length: at the
    blank scan its answer jumps, and no path from there adds up to the change.
    """
    if series.shape[1] < SHORT and not reads_correlations:
        return np.zeros_like(series)
    return randomise_phases(series, seed)


def occlusion(
    target: Target, fmri: np.ndarray, roi_mask: np.ndarray, groups: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return how much the target falls when groups of regions are taken away, shape (B,) each.

    A region that is taken away is masked, as one outside the field of view is.

    Parameters
    ----------
    target : callable
    fmri : ndarray, shape (B, R, T)
    roi_mask : ndarray of bool, shape (B, R) or (B, R, T)
    groups : mapping
        Name -> row numbers of its regions.
    """
    import torch

    from fmrilm.tokenizer.masks import sample_mask

    scans, mask = torch.from_numpy(fmri).float(), torch.from_numpy(roi_mask)
    found = {}
    with torch.no_grad():
        whole = target(scans, mask)
        for name, rows in groups.items():
            without = mask.clone()
            without[:, rows] = False
            found[name] = (whole - target(scans * sample_mask(without), without)).cpu().numpy()
    return found


def randomise_weights(model: Any, seed: int = 0) -> Any:
    """Return a copy of the model with the entries of every weight exchanged at random.

    A map that stays the same for it says nothing about what was learned (Adebayo et al. 2018,
    arXiv 1810.03292).
    """
    import torch

    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            flat = weight.flatten()
            weight.copy_(flat[torch.randperm(len(flat), generator=generator)].view_as(weight))
    return other


@dataclass(frozen=True)
class RegionMap:
    """How much of the difference between two groups' answers each region carries."""

    contrast: np.ndarray  # (R,) mean share of the first group minus that of the second
    z: np.ndarray  # (R,) contrast over its standard error, over people

    @classmethod
    def from_shares(cls, shares: np.ndarray, has: np.ndarray, subjects: np.ndarray) -> RegionMap:
        """Return the map from shares (B, R), whether a scan is of the first group, its person."""
        means, groups = [], []
        for value in (True, False):
            names = np.unique(subjects[has == value])
            people = [shares[(has == value) & (subjects == name)].mean(axis=0) for name in names]
            means.append(np.mean(people, axis=0))
            groups.append(np.var(people, axis=0, ddof=1) / len(people))
        contrast = means[0] - means[1]
        spread = np.sqrt(groups[0] + groups[1])
        return cls(contrast, np.where(spread > 0, contrast / np.where(spread > 0, spread, 1), 0.0))


def enrichment(importance: np.ndarray, planted: np.ndarray, top: float = 0.1) -> float:
    """Return how many times more often than by chance the top regions are planted ones.

    Parameters
    ----------
    importance : ndarray, shape (R,)
    planted : ndarray of bool, shape (R,)
    top : float
        Share of regions taken from the top.
    """
    count = max(1, round(top * len(importance)))
    chosen = np.argsort(-importance, kind="stable")[:count]
    return float(planted[chosen].mean() / planted.mean())


def enrichment_ceiling(planted: np.ndarray, top: float = 0.1) -> float:
    """Return the largest :func:`enrichment` there can be, for a top of that size."""
    count = max(1, round(top * len(planted)))
    return float(min(1.0, planted.sum() / count) / planted.mean())
