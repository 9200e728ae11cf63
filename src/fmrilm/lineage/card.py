"""The model card: what a model was made of, how it scored, what it is not for (``README.md``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fmrilm.config.schema import Config, load_config
from fmrilm.files import CARD, replacing
from fmrilm.lineage.trained_on import read_trained_on
from fmrilm.readers import read_json, reading
from fmrilm.run_record import read_lineage
from fmrilm.stats.kinds import KINDS

METRICS = "evaluation/metrics.json"  # in a run folder
_REMEDY = "run `fmrilm evaluate` on the run again"
SHOWN = {"model": "model", "control": "control", "baseline": "baseline"}
LICENCES = {  # of language models; taken from their pages on the Hugging Face hub
    "gpt2": "mit",
    "openai-community/gpt2": "mit",
    "smollm2": "apache-2.0",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "apache-2.0",
    "Qwen/Qwen3-0.6B": "apache-2.0",
}
_USE = """
```python
from fmrilm import FMRILM, FMRIProcessor

model = FMRILM.from_pretrained("{name}")
processor = FMRIProcessor.from_pretrained("{name}")
inputs = processor(images="sub-01_desc-preproc_bold.nii.gz", text="{question}")
print(processor.batch_decode(model.generate(**inputs)))
```
"""


def write_card(run: Path) -> None:
    """Write the model card of a run, ``model/README.md``; again whenever it is evaluated.

    Raises
    ------
    InputError
        If the lineage or the metrics are damaged.
    """
    with replacing(run / "model" / CARD) as partial:
        partial.write_text(model_card(run), encoding="utf-8")


def model_card(run: Path) -> str:
    """The model card of a run folder: YAML for the hub, then text.

    Parameters
    ----------
    run : Path
        With ``lineage.json`` and ``config.yaml``; scores come from ``evaluation/metrics.json`` if
        there is one.
    """
    lineage, config = read_lineage(run), load_config([run / "config.yaml"])
    path = run / METRICS
    name, question = run.resolve().name, "..."
    with reading(path, _REMEDY):
        results = read_json(path, _REMEDY)["results"] if path.is_file() else []
        head, scores = _head(lineage, config, results, name), _scores(results)
        if results and results[0].get("question"):
            question = results[0]["question"]
    synthetic = [name for name, about in lineage["cohorts"].items() if about["synthetic"]]
    parts = [
        head,
        f"# {name}",
        "An fMRI language model (fMRI-LM, arXiv 2511.21760) trained with fmrilm: region-wise time "
        "series become tokens, a causal language model answers questions about them. For research; "
        "**not for clinical use**.",
    ]
    if synthetic:
        parts.append(
            f"**Trained on SYNTHETIC scans** ({', '.join(synthetic)}): its answers say nothing "
            "about people."
        )
    parts += ["## Model", _model(lineage, config), "## Training data", _data(run, lineage)]
    parts += ["## Scores on held-out people", scores]
    if lineage["stage"] != "tokenizer":
        parts += ["## Use", _USE.format(name=name, question=question).strip()]
    return "\n\n".join(parts) + "\n"


def _head(lineage: dict[str, Any], config: Config, results: list[dict[str, Any]], name: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    scores = [
        EvalResult(
            task_type="other",
            dataset_type=result["cohort"],
            dataset_name=result["cohort"] + (" (synthetic)" if result["synthetic"] else ""),
            dataset_split=result["split"],
            metric_type=KINDS[result["kind"]].primary,
            metric_name=f"{result['task']}: {KINDS[result['kind']].primary_title}",
            metric_value=value,
        )
        for result in results
        if (value := _primary(result, result["predictors"]["model"])["value"]) is not None
    ]
    tags = ["fmri", "neuroimaging", "fmri-lm", "fmrilm"]
    if any(about["synthetic"] for about in lineage["cohorts"].values()):
        tags.append("synthetic")
    base = (lineage.get("language_model") or {}).get("name", "")
    card = ModelCardData(
        library_name="fmrilm",
        license=LICENCES.get(base, "other"),
        base_model=base if "/" in base and not Path(base).exists() else None,
        tags=tags,
        datasets=None,
        model_name=name if scores else None,
        eval_results=scores or None,
    )
    return f"---\n{card.to_yaml()}\n---"


def _model(lineage: dict[str, Any], config: Config) -> str:
    vq, lm = config.model.vq_model, config.model.lm
    lines = [
        f"stage {lineage['stage']}, fmrilm {lineage.get('code_version', 'of an earlier version')}",
        f"scans of {vq.num_rois} regions x {vq.num_timestamp} time points, patches of "
        f"{vq.patch_size}; encoder {vq.enc_cls}, quantizer {vq.quantizer}",
    ]
    if lineage["stage"] != "tokenizer":
        base = lineage.get("language_model") or {}
        name = base.get("name", lm.base_model)
        revision = f", revision {base['revision']}" if base.get("revision") else ""
        licence = LICENCES.get(name, "not known here: see where it comes from")
        if name == "tiny":
            licence = "trained from scratch here, none of its own"
        lines.append(f"language model {name}{revision} (licence: {licence})")
        lines.append(f"LoRA: {'yes' if lm.peft_tune else 'no'}")
    lines.append(f"random seed {config.train.seed}, {config.train.epochs} epochs")
    return _list(lines)


def _data(run: Path, lineage: dict[str, Any]) -> str:
    seen = read_trained_on(run)
    lines = []
    for name, about in lineage["cohorts"].items():
        line = f"{name}{' (SYNTHETIC)' if about['synthetic'] else ''}"
        rows = None if seen is None else seen[seen["cohort"] == name]
        if rows is not None:
            counts = rows.groupby("split")["participant_id"].nunique()
            people = ", ".join(f"{count} {split}" for split, count in counts.items())
            line += f": {len(rows)} scans; people: {people}"
        labels = sorted(about.get("fingerprints", {}).get("labels", {}))
        if labels:
            line += f"; label columns: {', '.join(labels)}"
        lines.append(line)
    lines = lines or ["not known (imported weights)"]
    return _list(lines) + "\n\nThe data use agreements of these cohorts hold for the weights too."


def _scores(results: list[dict[str, Any]]) -> str:
    if not results:
        return "Never evaluated: what its answers are worth is not known (`fmrilm evaluate`)."
    rows = ["| question | people | row | score | 95% interval |", "|---|---|---|---|---|"]
    notes = []
    for result in results:
        mark = " SYNTHETIC" if result["synthetic"] else ""
        who = f"{result['cohort']} {result['split']}{mark}, {result['n_subjects']}"
        for about in result["predictors"].values():
            score = _primary(result, about)
            value, low, high = (_number(score[key]) for key in ("value", "low", "high"))
            row = about["title"] if about["role"] != "model" else f"**{about['title']}**"
            title = KINDS[result["kind"]].primary_title
            rows.append(
                f"| {result['task']} ({title}) | {who} | {row} | {value} | {low} to {high} |"
            )
        reads = result["verdict"]["reads_scan"]["holds"]
        notes.append(
            f"{result['task']}: the answers {'depend' if reads else 'are NOT shown to depend'} on "
            f"the scan.{' ' + result['caveat'] if result.get('caveat') else ''}"
        )
    return "\n".join(rows) + "\n\n" + _list(notes)


def _primary(result: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    score = about["metrics"].get(KINDS[result["kind"]].primary, {})
    return {key: score.get(key) for key in ("value", "low", "high")}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
