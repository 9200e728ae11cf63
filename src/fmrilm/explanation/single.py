"""Where one answer about one scan comes from: its regions' and networks' shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmrilm.errors import InputError
from fmrilm.explanation.answers import expected_value, log_odds
from fmrilm.explanation.attribution import integrated_gradients, occlusion, reference_scan
from fmrilm.registry import suggest
from fmrilm.tasks import Task

if TYPE_CHECKING:
    import torch

    from fmrilm.atlases.atlas import Atlas


@dataclass(frozen=True)
class Origin:
    """What carries one answer about one scan.

    Attributes
    ----------
    explains : str
        What the shares add up to the change of.
    reference : str
        What the scan is compared with: itself with its phases randomised, or a blank one.
    shares : ndarray, shape (R,)
        Of the change from the reference to this scan.
    change : float
    error : float
        By how much of the change the shares miss it.
    lost : dict of str to float
        How much what is explained falls without each network.
    """

    explains: str
    reference: str
    shares: np.ndarray
    change: float
    error: float
    lost: dict[str, float]

    def by_network(self, atlas: Atlas) -> dict[str, float]:
        """Sum of the shares in each network."""
        return {name: float(self.shares[atlas.members(name)].sum()) for name in atlas.network_names}


@dataclass(frozen=True)
class Asked:
    """A question about one scan, as the model reads it.

    Attributes
    ----------
    task : Task
    prompt : str
    fmri, roi_mask : Tensor
        Of one scan: (R, T) and (R,) or (R, T).
    answer : str, optional
        Which of the task's answers; None: its last, or the number.
    """

    task: Task
    prompt: str
    fmri: torch.Tensor
    roi_mask: torch.Tensor
    answer: str | None = None


def explain_answer(
    model: Any,
    asked: Asked,
    atlas: Atlas,
    steps: int = 16,
    on_step: Callable[[float], None] | None = None,
) -> Origin:
    """Which regions and networks one answer about one scan rests on.

    Of one of several answers its log-odds are explained, of a number its expected value.

    Parameters
    ----------
    model : FMRILM
    asked : Asked
    atlas : Atlas
    steps : int
        Points on the path of the integrated gradients.
    on_step : callable, optional
        Given the share of the work that is done, after every step; what it raises ends the work.

    Raises
    ------
    InputError
        If the answer is none of the task's.
    """
    task = asked.task
    if task.values:
        target = expected_value(model, asked.prompt, task.values)
        explains = f"predicted {task.column}"
    else:
        names = task.candidates
        answer = names[-1] if asked.answer is None else asked.answer
        if answer not in names:
            raise InputError(f"unknown answer {answer!r}{suggest(answer, names)}; one of: {names}")
        target = log_odds(model, asked.prompt, names, names.index(answer))
        explains = f"log-odds of {answer}"
    networks = {name: atlas.members(name) for name in atlas.network_names}
    calls, total = 0, steps + 2 + 1 + len(networks)

    def counted(fmri: torch.Tensor, roi_mask: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        value = target(fmri, roi_mask)
        calls += 1
        if on_step is not None:
            on_step(calls / total)
        return value

    fmri, mask = asked.fmri.float().cpu().numpy()[None], asked.roi_mask.cpu().numpy()[None]
    reads_correlations = bool(model.config.vq_model.roi_profile)
    reference = reference_scan(fmri[0], 0, reads_correlations)[None]
    shares, change = integrated_gradients(counted, fmri, mask, reference, steps)
    lost = occlusion(counted, fmri, mask, networks)
    gap = abs(float(shares.sum()) - float(change[0]))
    return Origin(
        explains,
        "the scan with its phases randomised" if reference.any() else "a blank scan",
        shares[0],
        float(change[0]),
        gap / max(abs(float(change[0])), 1e-12),
        {name: float(value[0]) for name, value in lost.items()},
    )
