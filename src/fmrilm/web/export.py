"""Conversations about scans with their figures, as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import date
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fmrilm.web.shelf import HeldOrigin, HeldScan

if TYPE_CHECKING:
    from fmrilm.asking.pipeline import FMRIPipeline


def render(scans: Sequence[tuple[HeldScan, str]], pipelines: Sequence[FMRIPipeline]) -> str:
    """The page.

    Parameters
    ----------
    scans : sequence of (HeldScan, str)
        Each with what whoever asked calls it.
    pipelines : sequence of FMRIPipeline
        By the number of the run.
    """
    from jinja2 import Environment

    assets = files("fmrilm.web") / "assets"
    template = Environment(autoescape=True).from_string(
        (assets / "export.html").read_text(encoding="utf-8")
    )
    return template.render(
        style=(assets / "export.css").read_text(encoding="utf-8"),
        today=date.today().isoformat(),
        scans=[_scan(held, name, pipelines[held.run]) for held, name in scans],
    )


def _scan(held: HeldScan, name: str, pipeline: FMRIPipeline) -> dict[str, Any]:
    return held.view | {
        "name": name or held.view["scan"],
        "run": pipeline.run.folder.name,
        "carpet": _inline(held.carpet),
        "answers": held.answers,
        "origins": {task: _origin(origin) for task, origin in held.origins.items()},
    }


def _origin(origin: HeldOrigin) -> dict[str, Any]:
    largest = max((abs(network["share"]) for network in origin.content["networks"]), default=0.0)
    picture = _inline(origin.pictures["light"]) if origin.pictures else ""
    return origin.content | {"picture": picture, "largest": largest or 1.0}


def _inline(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"
