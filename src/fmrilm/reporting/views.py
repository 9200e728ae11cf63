"""From results to what the page's template fills in: strings, positions, charts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from fmrilm.evaluation.descriptions.descriptions import SHOWN
from fmrilm.evaluation.readings import read_readings
from fmrilm.evaluation.results import Predictor
from fmrilm.evaluation.table import say
from fmrilm.reporting import charts
from fmrilm.reporting.collect import Chain, Stage
from fmrilm.reporting.scans import group_connectivity, rebuild

if TYPE_CHECKING:
    from fmrilm.cohort.cohort import Cohort


def run_view(chain: Chain) -> dict[str, Any]:
    """Return name, provenance, learning curves and generations of a run."""
    lineage = chain.run.lineage
    config = (chain.run.folder / "config.yaml").read_text(encoding="utf-8")
    return {
        "name": chain.name,
        "folder": chain.run.folder.name,
        "stage": chain.run.stage,
        "synthetic": chain.synthetic,
        "created": str(lineage.get("created", ""))[:16].replace("T", " "),
        "code_version": str(lineage.get("code_version", "unknown")),
        "stages": [stage_view(stage) for stage in chain.stages],
        "missing_parent": chain.missing_parent,
        "texts": join_stages(chain.generations),
        "config": config,
        "model": model_facts(chain),
        "readings": max(
            len(read_readings(cohort, [chain.run.folder]).entries) for cohort in chain.cohorts
        ),
    }


def join_stages(generations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry per described scan, with the texts of every stage in ``models``."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for entry in generations:
        key = (entry["cohort"], entry["subject_id"], entry["session_id"])
        place = found.setdefault(key, {**entry, "models": []})
        place["models"].insert(0, (entry["stage"], entry["generated"]))  # earlier stage first
    return list(found.values())


def model_facts(chain: Chain) -> list[tuple[str, str]]:
    """Return the few lines of the configuration that a reader asks for first."""
    vq, lm = chain.run.config.model.vq_model, chain.run.config.model.lm
    width, depth, heads = vq.size
    codes = f"{vq.codebook_size} codes" if vq.quantizer == "vq" else str(vq.fsq_levels)
    return [
        ("input", f"{vq.num_rois} regions x {vq.num_timestamp} time points"),
        ("tokens", f"{vq.num_tokens} per scan, {vq.patch_size} time points each"),
        ("encoder", f"{vq.enc_cls}: {depth} layers, width {width}, {heads} heads"),
        ("quantizer", f"{vq.quantizer}, {codes}"),
        ("language model", f"{lm.base_model}; reads {lm.fmri_input} features"),
        ("seed", str(chain.run.config.train.seed)),
    ]


def stage_view(stage: Stage) -> dict[str, Any]:
    """Return title, duration and learning curves of one stage."""
    train = stage.run.config.train
    best = stage.best_epoch
    return {
        "title": stage.title,
        "name": stage.run.folder.name,
        "created": str(stage.run.lineage.get("created", ""))[:16].replace("T", " "),
        "epochs": int(max((row["epoch"] for row in stage.rows), default=0)),
        "best": best,
        "duration": duration(stage.seconds),
        "lr": train.lr,
        "batch": train.batch_size * train.gradient_accumulation_steps,
        "charts": [
            {"name": name.replace("_", " "), "svg": Markup(charts.loss_chart(name, curves, best))}
            for name, curves in stage.curves.items()
        ],
        "cohorts": {
            name: known.get("fingerprint", "")
            for name, known in stage.run.lineage["cohorts"].items()
        },
    }


def duration(seconds: float) -> str:
    """Return "1 h 05 min", "3 min 20 s" or "12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def cohort_view(cohort: Cohort) -> dict[str, Any]:
    """Return what is known of a cohort, and its group connectivity."""
    group = group_connectivity(cohort)
    limit = float(np.nanquantile(np.abs(group.matrix), 0.98))
    table = cohort.table
    splits = {
        name: (int((table["split"] == name).sum()), part["subject_id"].nunique())
        for name in ("train", "val", "test")
        for part in [table[table["split"] == name]]
    }
    shape = cohort.store.shape(0)
    return {
        "name": cohort.name,
        "synthetic": cohort.info.synthetic,
        "source": cohort.info.source or cohort.store.source or "not stated",
        "splits": splits,
        "shape": shape,
        "t_r": cohort.store.t_r or cohort.info.t_r,
        "atlas": cohort.store.atlas or cohort.atlas.name,
        "norm": cohort.scaler.norm,
        "connectivity": Markup(
            charts.connectivity_chart(group.matrix, group.groups, max(round(limit, 2), 0.01))
        ),
        "n_units": group.n_units,
        "unit": group.unit,
    }


def tokenizer_view(cohort: Cohort, tokenizer: Any) -> dict[str, Any] | None:
    """Return codebook use and reconstructions of a cohort's validation scans, if any are whole."""
    found = rebuild(cohort, tokenizer)
    if found is None:
        return None
    step = cohort.store.t_r or cohort.info.t_r
    time = np.arange(tokenizer.config.num_timestamp) * step
    return {
        "usage": Markup(charts.usage_chart(found.counts)),
        "used": int((found.counts > 0).sum()),
        "size": len(found.counts),
        "perplexity": found.perplexity,
        "n_tokens": int(found.counts.sum()),
        "n_scans": found.n_scans,
        "correlation": float(np.nanmedian(found.correlations)),
        "explained": found.explained,
        "subject": found.subject,
        "examples": [
            {
                "quantile": name,
                "region": region,
                "r": r,
                "svg": Markup(charts.series_chart(time, original, rebuilt)),
            }
            for name, region, r, original, rebuilt in found.examples
        ],
    }


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
