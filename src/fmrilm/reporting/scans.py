"""What the report shows of scans: group connectivity, codes, reconstructed series.

Only train and val scans are read: the test split is for ``fmrilm evaluate``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmrilm.cohort.reader import ScanReader

if TYPE_CHECKING:
    from fmrilm.cohort.cohort import Cohort

MAX_SCANS = 200
SHORT = 32  # time points; the scans of a person are joined when they are shorter
QUANTILES = {"best": 1.0, "upper quartile": 0.75, "median": 0.5, "lower quartile": 0.25}
QUANTILES |= {"5th percentile": 0.05, "worst": 0.0}


@dataclass(frozen=True)
class GroupConnectivity:
    """Mean correlation of the training scans, regions ordered by network."""

    matrix: np.ndarray  # (R, R), nan where a region was never usable
    groups: list[tuple[str, int]]  # network, number of regions
    n_units: int
    unit: str  # what one correlation matrix was made from


def group_connectivity(cohort: Cohort) -> GroupConnectivity:
    """Return the group's functional connectivity: tanh of the mean Fisher z.

    Scans shorter than 32 time points are joined per person first.
    """
    rows = cohort.indices("train")
    is_short = cohort.store.shape(int(rows[0]))[1] < SHORT
    if is_short:
        subjects = cohort.table["subject_id"].to_numpy()[rows]
        units = [rows[subjects == name] for name in np.unique(subjects)][:MAX_SCANS]
    else:
        units = [np.array([row]) for row in rows[:MAX_SCANS]]
    order, groups = network_order(cohort)
    total = np.zeros((len(order), len(order)))
    count = np.zeros_like(total)
    for unit in units:
        z = np.arctanh(_correlation(cohort, unit)[np.ix_(order, order)])
        known = ~np.isnan(z)
        total[known] += z[known]
        count += known
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    np.fill_diagonal(mean, np.nan)
    unit_name = "persons, their windows joined" if is_short else "scans"
    return GroupConnectivity(np.tanh(mean), groups, len(units), unit_name)


def _correlation(cohort: Cohort, rows: np.ndarray) -> np.ndarray:
    """Return the correlations (R, R) over some scans joined in time; nan for unusable regions."""
    scans = [cohort.read(int(row)) for row in rows]
    kept = [~cohort.censored(int(row)) for row in rows]
    series = np.concatenate([v[:, k] for (v, _), k in zip(scans, kept, strict=True)], axis=1)
    usable = np.all([mask for _, mask in scans], axis=0)
    centred = series - series.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1)
    usable &= norms > 0
    unit = np.where(usable[:, None], centred / np.where(norms > 0, norms, 1)[:, None], np.nan)
    return np.clip(unit @ unit.T, -0.999999, 0.999999)


def network_order(cohort: Cohort) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """Return the regions sorted by network and hemisphere, and the size of each network."""
    atlas = cohort.atlas
    if not atlas.has_networks:
        return np.arange(len(atlas)), [("", len(atlas))]
    rank = {name: position for position, name in enumerate(atlas.network_names)}
    keys = [
        (rank.get(network, len(rank)), side, position)
        for position, (network, side) in enumerate(
            zip(atlas.networks, atlas.hemispheres, strict=True)
        )
    ]
    order = np.array([position for *_, position in sorted(keys)])
    names = [*rank, ""]
    sizes = np.bincount([key[0] for key in keys], minlength=len(names))
    return order, [(name, int(n)) for name, n in zip(names, sizes, strict=True) if n]


@dataclass(frozen=True)
class Rebuilt:
    """Original and reconstructed series of some regions, and the codes of all val scans."""

    counts: np.ndarray  # (codebook_size,) how often each code was used
    n_scans: int
    correlations: np.ndarray  # (scans, R) of original and reconstruction, nan where unusable
    explained: float  # share of the variance that the reconstruction explains
    subject: str
    examples: list[tuple[str, str, float, np.ndarray, np.ndarray]]
    # (which quantile, region, correlation, original (T,), reconstructed (T,))

    @property
    def perplexity(self) -> float:
        """Number of codes that would be used if they were used equally."""
        share = self.counts[self.counts > 0] / self.counts.sum()
        return float(np.exp(-(share * np.log(share)).sum()))


def rebuild(
    cohort: Cohort, tokenizer: Any, split: str = "val", batch_size: int = 16
) -> Rebuilt | None:
    """Return what the tokenizer makes of the scans of a split.

    The examples are regions of one scan, at fixed quantiles of how well they are reconstructed,
    so that good and bad ones are shown alike. Scans shorter than the model's length are left
    out; None if there are no others.
    """
    import torch

    from fmrilm.tokenizer.masks import region_mask

    length = tokenizer.config.num_timestamp
    rows = [row for row in cohort.indices(split) if cohort.store.shape(int(row))[1] >= length]
    if not rows:
        return None
    rows = rows[:MAX_SCANS]
    reader = ScanReader(cohort, length)
    counts = np.zeros(tokenizer.codebook_size, dtype=int)
    originals, rebuilts, masks = [], [], []
    for start in range(0, len(rows), batch_size):
        fmri, mask = reader.batch(rows[start : start + batch_size])
        with torch.inference_mode():
            codes = tokenizer.tokenize(fmri, mask)
            out = tokenizer.reconstruct(fmri, mask)
        valid = tokenizer.token_mask(mask)
        counts += np.bincount(codes[valid].cpu().numpy(), minlength=len(counts))
        originals.append(fmri.numpy())
        rebuilts.append(out.cpu().numpy())
        masks.append(region_mask(mask).numpy())
    original, rebuilt, usable = (np.concatenate(part) for part in (originals, rebuilts, masks))
    correlations = np.where(usable, _row_correlation(original, rebuilt), np.nan)
    residual = ((original - rebuilt) ** 2)[usable].sum()
    centred = original - original.mean(axis=-1, keepdims=True)
    explained = 1 - residual / max((centred**2)[usable].sum(), 1e-12)
    middle = np.argsort(np.nanmean(correlations, axis=1))[len(rows) // 2]
    return Rebuilt(
        counts,
        len(rows),
        correlations,
        float(explained),
        str(cohort.table["subject_id"].iloc[int(rows[middle])]),
        _examples(cohort, correlations[middle], original[middle], rebuilt[middle]),
    )


def _row_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (x - x.mean(axis=-1, keepdims=True) for x in (a, b))
    norm = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return np.where(norm > 0, (a * b).sum(-1) / np.where(norm > 0, norm, 1), np.nan)


def _examples(
    cohort: Cohort, correlations: np.ndarray, original: np.ndarray, rebuilt: np.ndarray
) -> list[tuple[str, str, float, np.ndarray, np.ndarray]]:
    known = np.flatnonzero(~np.isnan(correlations))
    ranked = known[np.argsort(correlations[known])]
    found = []
    for name, quantile in QUANTILES.items() if len(ranked) else ():
        region = int(ranked[round(quantile * (len(ranked) - 1))])
        title = cohort.atlas.names[region]
        value = float(correlations[region])
        found.append((name, title, value, original[region], rebuilt[region]))
    return found
