"""One study as the page shows it: learning curves, repeated splits, sites left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from fmrilm.evaluation.scrutiny.study import FROZEN, title_of
from fmrilm.reporting.dotplot import Mark, Row, dot_plot
from fmrilm.reporting.learning import Curve, learning_chart
from fmrilm.stats.intervals import Estimate
from fmrilm.stats.kinds import KINDS, Kind

STYLES = {"fc": "other", "values": "other", "region_means": "faint", "covariates": "warm"}
SHORT = {
    "fc": "FC",
    "values": "window values",
    "region_means": "region means",
    "covariates": "covariates",
}


def study_view(
    found: dict[str, Any], scores: Sequence[tuple[str, Estimate]] = ()
) -> dict[str, Any]:
    """Return what the page shows of a study.

    Parameters
    ----------
    found : dict
        From :meth:`fmrilm.evaluation.scrutiny.study.Study.run`.
    scores : sequence of (str, Estimate)
        The runs themselves on the same held-out people, marked at the end of the curves.
    """
    kind = KINDS[found["kind"]]
    curves = [
        Curve(
            [point["people"] for point in points],
            [point["estimate"] for point in points],
            style_of(name),
            short(name),
        )
        for name, points in found["curves"].items()
    ]
    ends = [(found["n_train"], score.value, name) for name, score in scores]
    return {
        **{name: found[name] for name in ("cohort", "task", "synthetic", "n_people", "n_train")},
        "score_name": kind.primary_title,
        "fitted": "Ridge regression" if kind.is_number else "Logistic regression",
        "is_number": kind.is_number,
        "curve": Markup(learning_chart(curves, ends, kind)),
        "n_repeats": max((len(row["scores"]) for row in found["repeats"].values()), default=0),
        "repeats": Markup(
            dot_plot(
                [
                    Row(short(name), [Mark(style_of(name), row["estimate"], row["scores"])])
                    for name, row in found["repeats"].items()
                ],
                f"{kind.primary_title} over repeated splits",
                kind,
            )
        ),
        "sites": Markup(sites_chart(found["sites"], kind)),
        "frozen": [
            (name.removeprefix(FROZEN), points[-1]["estimate"].value)
            for name, points in found["curves"].items()
            if name.startswith(FROZEN) and not math.isnan(points[-1]["estimate"].value)
        ],
        "ends": {name: score.value for name, score in scores if not math.isnan(score.value)},
        "key": [(style_of(name), title_of(name, kind)) for name in found["curves"]],
    }


def style_of(feature: str) -> str:
    """Return the line style of a feature."""
    return "model" if feature.startswith(FROZEN) else STYLES[feature]


def short(feature: str) -> str:
    """Return what stands at the end of a curve."""
    return "frozen tokens" if feature.startswith(FROZEN) else SHORT[feature]


def sites_chart(sites: dict[str, dict[str, Estimate]], kind: Kind) -> str:
    """Return one row per site left out, with a mark per feature; empty without sites."""
    names = list(next(iter(sites.values()), {}))
    shown = [name for name in sites if name != "region_means"]
    rows = [
        Row(site, [Mark(style_of(name), sites[name][site]) for name in shown])
        for site in names
        if any(not math.isnan(sites[name][site].value) for name in shown)
    ]
    about = f"{kind.primary_title} on a site that was left out"
    return dot_plot(rows, about, kind) if rows else ""
