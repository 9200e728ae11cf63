"""Maps of what an answer rests on: attribution over a group of scans, with its checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fmrilm.explanation.attribution import (
    RegionMap,
    Target,
    integrated_gradients,
    occlusion,
    reference_scan,
)
from fmrilm.explanation.connections import (
    connection_occlusion,
    connection_shares,
    pair_name,
    pair_table,
    pairs_of_networks,
)

if TYPE_CHECKING:
    from fmrilm.atlases.atlas import Atlas
    from fmrilm.evaluation.questions import Question
    from fmrilm.evaluation.scoring import Scorer

BATCH = 8


@dataclass(frozen=True)
class Group:
    """The scans that are explained, what they are compared with, and which group each is of."""

    fmri: np.ndarray  # (n, R, T)
    masks: np.ndarray  # (n, R) or (n, R, T)
    references: np.ndarray  # (n, R, T)
    has: np.ndarray  # (n,) bool: the answer, or a number above the median
    subjects: np.ndarray  # (n,) str

    def batches(self) -> list[slice]:
        """Return which scans are read at once."""
        return [slice(start, start + BATCH) for start in range(0, len(self.has), BATCH)]


def read_group(
    scorer: Scorer, question: Question, rows: np.ndarray, has: np.ndarray, reads_correlations: bool
) -> Group:
    """Return the scans at positions ``rows`` of a question; ``has`` says which of all its scans
    are of the first group."""
    fmri, masks = (part.cpu().numpy() for part in scorer.batch(question.rows[rows].tolist()))
    references = [
        reference_scan(scan, int(row), reads_correlations)
        for scan, row in zip(fmri, rows, strict=True)
    ]
    return Group(fmri, masks, np.stack(references), has[rows], question.subjects[rows])


def explain_regions(
    targets: Sequence[Target], group: Group, atlas: Atlas, steps: int
) -> tuple[RegionMap, dict[str, float], dict[str, Any]]:
    """Return the region map, what is lost without each network, completeness and sanity check.

    ``targets`` are what the model answers, and what the one with shuffled weights does.
    """
    maps = []
    for target in targets:
        parts = [
            integrated_gradients(target, group.fmri[s], group.masks[s], group.references[s], steps)
            for s in group.batches()
        ]
        shares, change = (np.concatenate(column) for column in zip(*parts, strict=True))
        found = RegionMap.from_shares(shares, group.has, group.subjects)
        maps.append((found, _incompleteness(shares.sum(1), change)))
    networks = {name: atlas.members(name) for name in atlas.network_names}
    lost = [occlusion(targets[0], group.fmri[s], group.masks[s], networks) for s in group.batches()]
    (found, error), (shuffled, _) = maps
    facts = {
        "completeness_error": error,
        "randomised_correlation": likeness(found.contrast, shuffled.contrast),
    }
    return found, {name: _gap(lost, name, group.has) for name in networks}, facts


def explain_connections(
    targets: Sequence[Target], tokenizers: Sequence[Any], group: Group, atlas: Atlas, steps: int
) -> tuple[pd.DataFrame, RegionMap, dict[str, Any]]:
    """Return the table of network pairs, the map of every connection (R, R), and checks."""
    maps = []
    for target, tokenizer in zip(targets, tokenizers, strict=True):
        parts = [
            connection_shares(target, tokenizer, group.fmri[s], group.masks[s], steps)
            for s in group.batches()
        ]
        shares, change = (np.concatenate(column) for column in zip(*parts, strict=True))
        found = RegionMap.from_shares(shares, group.has, group.subjects)
        maps.append((shares, found, _incompleteness(shares.sum((1, 2)) / 2, change)))
    (shares, found, error), (_, shuffled, _) = maps
    pairs = pairs_of_networks(atlas)
    blocks = {pair_name(pair): block for pair, block in pairs.items()}
    without = [
        connection_occlusion(targets[0], tokenizers[0], group.fmri[s], group.masks[s], blocks)
        for s in group.batches()
    ]
    lost = {name: np.concatenate([part[name] for part in without]) for name in blocks}
    edges = np.triu_indices(len(atlas), 1)
    facts = {
        "completeness_error": error,
        "randomised_correlation": likeness(found.contrast[edges], shuffled.contrast[edges]),
    }
    return pair_table(shares, lost, pairs, group.has, group.subjects), found, facts


def _incompleteness(total: np.ndarray, change: np.ndarray) -> float:
    """Return how far shares are from adding up to the change, relative to it."""
    return float(np.abs(total - change).mean() / max(np.abs(change).mean(), 1e-12))


def _gap(lost: list[dict[str, np.ndarray]], name: str, has: np.ndarray) -> float:
    """Return what the first group loses more than the second."""
    values = np.concatenate([part[name] for part in lost])
    return float(values[has].mean() - values[~has].mean())


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Return the rank correlation of two maps; 0 where one is constant."""
    from scipy.stats import spearmanr

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(spearmanr(first, second).statistic)
