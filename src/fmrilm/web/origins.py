"""Where an answer comes from, for the page: shares of networks and regions, and a glass brain."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from fmrilm.asking.pipeline import FMRIPipeline
from fmrilm.atlases.atlas import Atlas
from fmrilm.errors import InputError
from fmrilm.explanation.single import Asked, explain_answer
from fmrilm.processing.recipes import ReadyScan
from fmrilm.registry import suggest
from fmrilm.web.shelf import HeldOrigin
from fmrilm.web.worker import Job

STEPS = 16  # points on the path of the integrated gradients
SHOWN = 12  # regions that are listed
MARKED = 60  # regions that are drawn on the brain
THEMES = ("light", "dark")


def find_origin(
    job: Job, pipeline: FMRIPipeline, ready: ReadyScan, task: str, answer: str | None
) -> HeldOrigin:
    """Attribute one answer to regions and networks; tells progress, stops when it is cancelled.

    Parameters
    ----------
    job : Job
    pipeline : FMRIPipeline
    ready : ReadyScan
    task : str
        One of the run's.
    answer : str, optional
        Which of its answers; None: the last, or the number.
    """
    known = {t.name: t for t in pipeline.tasks()}
    if task not in known:
        raise InputError(
            f"the run has no question {task!r}{suggest(task, list(known))}: only answers that an "
            "evaluation covers are attributed"
        )
    atlas = pipeline.processor.atlas
    job.progress(0.0, "attributing the answer")
    asked = Asked(
        known[task], pipeline.prompt(ready, known[task]), ready.fmri, ready.roi_mask, answer
    )
    origin = explain_answer(
        pipeline.model,
        asked,
        atlas,
        STEPS,
        lambda share: job.progress(0.9 * share, "attributing the answer"),
    )
    order = np.argsort(-np.abs(origin.shares), kind="stable")[:SHOWN]
    networks = origin.by_network(atlas)
    content = {
        "task": task,
        "explains": origin.explains,
        "reference": origin.reference,
        "change": round(origin.change, 6),
        "error": round(origin.error, 4),
        "networks": [
            {"name": name, "share": round(share, 6), "lost": round(origin.lost[name], 6)}
            for name, share in sorted(networks.items(), key=lambda item: -abs(item[1]))
        ],
        "regions": [
            {
                "name": atlas.names[row],
                "network": atlas.networks[row],
                "share": round(float(origin.shares[row]), 6),
            }
            for row in order
        ],
    }
    job.progress(0.92, "drawing")
    pictures = brain_pictures(atlas, origin.shares)
    return HeldOrigin(content | {"has_brain": bool(pictures)}, pictures)


def brain_pictures(atlas: Atlas, shares: np.ndarray) -> dict[str, bytes]:
    """PNGs of the most telling regions on a glass brain, one per theme.

    Nothing where the atlas has no coordinates, or nilearn is missing.
    """
    known = np.isfinite(atlas.centroids).all(axis=1)
    rows = np.argsort(-np.abs(shares), kind="stable")
    rows = rows[known[rows]][:MARKED]
    limit = float(np.abs(shares[rows]).max()) if len(rows) else 0.0
    if limit == 0:
        return {}
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from nilearn.plotting import plot_markers
    except ImportError:
        return {}
    sizes = 10 + 90 * np.abs(shares[rows]) / limit
    settings: dict[str, Any] = {
        "display_mode": "lyrz",
        "node_cmap": "RdBu_r",
        "node_vmin": -limit,
        "node_vmax": limit,
        "colorbar": False,
    }
    pictures = {}
    for theme in THEMES:
        buffer = io.BytesIO()
        display = plot_markers(
            shares[rows], atlas.centroids[rows], sizes, black_bg=theme == "dark", **settings
        )
        back = "black" if theme == "dark" else "white"
        display.frame_axes.figure.savefig(buffer, format="png", dpi=110, facecolor=back)
        display.close()
        pictures[theme] = buffer.getvalue()
    return pictures
