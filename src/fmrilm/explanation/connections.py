"""Which connections an answer rests on, of a model that is given the regions' connectivity.

Such a model reads how far each connection of a scan is from the average of its training scans.
Integrated gradients run from that average scan (all distances zero) to the scan itself; its time
series stay as they are. ``B`` scans, ``R`` regions, ``S`` time patches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fmrilm.explanation.attribution import (
    RegionMap,
    Target,
    enrichment,
    enrichment_ceiling,
)
from fmrilm.readers import read_json, reading
from fmrilm.stats.classification import weighted_auc

if TYPE_CHECKING:
    import torch

    from fmrilm.atlases.atlas import Atlas
    from fmrilm.cohort.cohort import Cohort


@contextmanager
def changed_profiles(
    tokenizer: Any, change: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    """Let a tokenizer see its connectivity profiles (B, S, R, R) as ``change`` makes them."""
    original = tokenizer.profiles
    tokenizer.profiles = lambda fmri, roi_mask: change(original(fmri, roi_mask))
    try:
        yield
    finally:
        del tokenizer.profiles  # the method of the class is there again


def connection_shares(
    target: Target, tokenizer: Any, fmri: np.ndarray, roi_mask: np.ndarray, steps: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Return each connection's share of the change from the average scan, and that change.

    Parameters
    ----------
    target : callable
    tokenizer : FMRITokenizer
        The one that ``target`` encodes scans with.
    fmri : ndarray, shape (B, R, T)
    roi_mask : ndarray of bool, shape (B, R) or (B, R, T)
    steps : int
        Points on the path (midpoint rule).

    Returns
    -------
    shares : ndarray, shape (B, R, R)
        Symmetric, zero on the diagonal; those of one triangle add up to the change, up to the
        error of the sum over steps.
    change : ndarray, shape (B,)
    """
    import torch

    scans, mask = torch.from_numpy(fmri).float(), torch.from_numpy(roi_mask)
    total: torch.Tensor | None = None
    seen: list[torch.Tensor] = []

    def at(share: float) -> Callable[[torch.Tensor], torch.Tensor]:
        def change(profiles: torch.Tensor) -> torch.Tensor:
            seen[:] = [profiles.detach(), (share * profiles.detach()).requires_grad_(True)]
            return seen[1]

        return change

    for step in range(steps):
        with changed_profiles(tokenizer, at((step + 0.5) / steps)):
            [gradient] = torch.autograd.grad(target(scans, mask).sum(), seen[1])
        part = (seen[0] * gradient).sum(1) / steps  # over time patches: (B, R, R)
        total = part if total is None else total + part
    with torch.no_grad():
        ends = []
        for share in (torch.tensor(1.0), torch.tensor(0.0)):
            with changed_profiles(tokenizer, partial(torch.mul, share)):
                ends.append(target(scans, mask))
    assert total is not None
    both = total + total.transpose(1, 2)  # a connection stands in the profiles of both regions
    both.diagonal(dim1=1, dim2=2).zero_()
    return both.cpu().numpy(), (ends[0] - ends[1]).cpu().numpy()


def connection_occlusion(
    target: Target,
    tokenizer: Any,
    fmri: np.ndarray,
    roi_mask: np.ndarray,
    blocks: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return how much the target falls when connections are set to the average, (B,) each.

    Parameters
    ----------
    target : callable
    tokenizer : FMRITokenizer
    fmri : ndarray, shape (B, R, T)
    roi_mask : ndarray of bool, shape (B, R) or (B, R, T)
    blocks : mapping
        Name -> which connections, bool (R, R), symmetric.
    """
    import torch

    scans, mask = torch.from_numpy(fmri).float(), torch.from_numpy(roi_mask)
    found = {}
    with torch.no_grad():
        whole = target(scans, mask)
        for name, block in blocks.items():
            kept = torch.from_numpy(~block).float().to(tokenizer.device)
            with changed_profiles(tokenizer, partial(torch.mul, kept)):
                found[name] = (whole - target(scans, mask)).cpu().numpy()
    return found


def pairs_of_networks(atlas: Atlas) -> dict[tuple[str, str], np.ndarray]:
    """Return the connections, bool (R, R), within and between the networks of an atlas."""
    found = {}
    for first, second in combinations_with_replacement(sorted(atlas.network_names), 2):
        block = np.zeros((len(atlas), len(atlas)), dtype=bool)
        block[np.ix_(atlas.members(first), atlas.members(second))] = True
        block |= block.T
        np.fill_diagonal(block, False)
        if block.any():
            found[first, second] = block
    return found


def pair_table(
    shares: np.ndarray,
    lost: Mapping[str, np.ndarray],
    pairs: Mapping[tuple[str, str], np.ndarray],
    has: np.ndarray,
    subjects: np.ndarray,
) -> pd.DataFrame:
    """Return one row per pair of networks, most telling first.

    Parameters
    ----------
    shares : ndarray, shape (n, R, R)
    lost : mapping
        ``first · second`` -> what a scan's log-odds or number lose without the pair, (n,).
    pairs : mapping
        Of :func:`pairs_of_networks`.
    has : ndarray of bool, shape (n,)
        Whether each scan has the answer.
    subjects : ndarray of str, shape (n,)

    Returns
    -------
    DataFrame
        ``first``, ``second``, number of ``connections``, ``sum`` of their contrasts between the
        groups, its ``share`` of all, its ``z`` over people, by which rows are sorted; the same
        contrast by occlusion: ``lost_without`` and ``lost_z``.
    """
    sums = np.stack([shares[:, np.triu(block)].sum(1) for block in pairs.values()], axis=1)
    found = RegionMap.from_shares(sums, has, subjects)
    occluded = np.stack([lost[pair_name(pair)] for pair in pairs], axis=1)
    without = RegionMap.from_shares(occluded, has, subjects)
    total = float(found.contrast.sum())
    table = pd.DataFrame(
        {
            "first": [first for first, _ in pairs],
            "second": [second for _, second in pairs],
            "connections": [int(block.sum() // 2) for block in pairs.values()],
            "sum": found.contrast,
            "share": found.contrast / total if abs(total) > 1e-12 else np.nan,
            "z": found.z,
            "lost_without": without.contrast,
            "lost_z": without.z,
        }
    )
    return table.sort_values("z", ascending=False, kind="stable").reset_index(drop=True)


def pair_name(pair: tuple[str, str]) -> str:
    """Return the name of a pair of networks."""
    return f"{pair[0]} · {pair[1]}"


def planted_pairs(cohort: Cohort, column: str) -> set[tuple[str, str]]:
    """Return the pairs of networks in which a synthetic cohort has an effect of a phenotype.

    Empty where nothing is known to be planted. Effects on amplitude and spectrum are left out:
    they are in no connection.
    """
    path = cohort.folder / "planted_effects.json"
    if not path.is_file():
        return set()
    names = {column, column.removesuffix("_enc")}
    found = set()
    with reading(path):
        for effect in read_json(path)["effects"]:
            if effect["phenotype"] in names and effect["kind"] == "connectivity":
                first, second = sorted(effect["networks"])
                found.add((first, second))
    return found


def recovery(
    table: pd.DataFrame,
    connections: np.ndarray,
    pairs: Mapping[tuple[str, str], np.ndarray],
    planted: set[tuple[str, str]],
) -> dict[str, float]:
    """Return how often the most telling tenth is planted, relative to all, and the best possible.

    Every network has a part in some planted pair, so what can be found is pairs of networks (a
    tenth of the 36 are four) and the single connections inside them. ``pairs_auc`` is the
    probability that a planted pair stands before another.

    Parameters
    ----------
    table : DataFrame
        Of :func:`pair_table`.
    connections : ndarray, shape (R, R)
        z of every connection.
    pairs : mapping
    planted : set
    """
    is_planted = np.array([tuple(row) in planted for row in table[["first", "second"]].to_numpy()])
    edges = np.triu_indices(len(connections), 1)
    inside = np.zeros(connections.shape, dtype=bool)
    for pair in planted & set(pairs):
        inside |= pairs[pair]
    by = {"": "z", "share_": "share", "occlusion_": "lost_z"}
    ones = np.ones((1, len(table)))
    return {
        "planted_pairs": int(is_planted.sum()),
        "pairs": len(table),
        **{
            f"pairs_{name}enrichment": enrichment(table[column].to_numpy(), is_planted)
            for name, column in by.items()
        },
        "pairs_ceiling": enrichment_ceiling(is_planted),
        "pairs_auc": float(weighted_auc(is_planted, table["z"].to_numpy(), ones)[0]),
        "connections_enrichment": enrichment(connections[edges], inside[edges]),
        "connections_ceiling": enrichment_ceiling(inside[edges]),
    }


def recovery_line(found: Mapping[str, float]) -> str:
    """Return what :func:`recovery` found in one sentence."""
    return (
        f"planted: {found['planted_pairs']} of {found['pairs']} pairs of networks. The top tenth "
        f"is planted {found['pairs_enrichment']:.2f} times as often as all are (at most "
        f"{found['pairs_ceiling']:.2f}; by share {found['pairs_share_enrichment']:.2f}, by "
        f"occlusion {found['pairs_occlusion_enrichment']:.2f}); a planted pair stands before "
        f"another with probability {found['pairs_auc']:.2f}. Of single connections the top tenth: "
        f"{found['connections_enrichment']:.2f} times (at most {found['connections_ceiling']:.2f})"
    )
