"""How true the generated descriptions are, as the page shows it."""

from __future__ import annotations

from typing import Any

from fmrilm.evaluation.descriptions.descriptions import SHOWN
from fmrilm.evaluation.results import Predictor
from fmrilm.evaluation.table import say


def description_view(found: dict[str, Any]) -> dict[str, Any]:
    """Return one entry of ``descriptions.json`` as a table of texts and their scores."""
    primary = found["primary"]
    predictors = [Predictor.from_dict(values) for values in found["predictors"].values()]
    rows = [
        {
            "role": one.role,
            "title": one.title,
            "scores": [say(one.metrics.get(metric)) for metric in SHOWN],
            "difference": say(one.difference.get(primary), signed=True),
        }
        for one in predictors
    ]
    plain = (
        "cohort",
        "synthetic",
        "split",
        "n_scans",
        "n_subjects",
        "scan_adds",
        "verdict",
        "texts",
    )
    return {
        **{name: found[name] for name in (*plain, "verdict")},
        "headings": [*SHOWN.values(), f"model minus this ({SHOWN[found['primary']]})"],
        "rows": rows,
    }
