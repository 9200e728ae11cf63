"""`fmrilm methods`: the methods and results paragraphs of a paper, written from what a run did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fmrilm import __version__
from fmrilm.config.schema import Config, load_config
from fmrilm.errors import InputError
from fmrilm.evaluation.results import BASELINE, CONTROL, TaskResult, read_results
from fmrilm.evaluation.table import say
from fmrilm.evaluation.verdict import SENTENCES
from fmrilm.files import PROCESSOR, replacing
from fmrilm.lineage.trained_on import read_trained_on
from fmrilm.preparation.scan import PrepareSettings
from fmrilm.processing.processor import FMRIProcessor
from fmrilm.processing.recipes import ScanRecipe
from fmrilm.readers import reading
from fmrilm.run_record import find_parent, read_lineage

CITATIONS = {
    "fmrilm": "Wei et al. (2025). fMRI-LM: Towards a Universal Foundation Model for "
    "Language-Aligned fMRI Understanding. arXiv:2511.21760.",
    "intervals": "Cameron & Miller (2015). A practitioner's guide to cluster-robust inference. "
    "Journal of Human Resources 50(2), 317-372.",
    "vq": "van den Oord et al. (2017). Neural discrete representation learning. NeurIPS.",
    "fsq": "Mentzer et al. (2024). Finite scalar quantization: VQ-VAE made simple. ICLR.",
    "titok": "Yu et al. (2024). An image is worth 32 tokens for reconstruction and generation. "
    "NeurIPS.",
    "lora": "Hu et al. (2022). LoRA: Low-rank adaptation of large language models. ICLR.",
    "nilearn": "Abraham et al. (2014). Machine learning for neuroimaging with scikit-learn. "
    "Frontiers in Neuroinformatics 8:14.",
}
_STAGES = {
    "tokenizer": "a tokenizer was trained to reconstruct the series and to agree with their "
    "descriptions in words",
    "align": "the language model was trained to describe scans",
    "instruct": "the language model was trained to answer questions about scans",
}
_STRATEGIES = {
    "none": "No confounds were regressed out",
    "auto": "Confounds were regressed out (nilearn's `simple` strategy) where they lay beside the "
    "scans",
}
_LENGTHS = {
    "keep": "kept at their length",
    "clip": "cut to their first {n} time points",
    "random_clip": "cut to {n} time points at a random place",
    "windows": "cut into windows of {n} time points",
    "pad": "cut or padded to {n} time points, padding being masked",
}


def methods(run: str, *, output: str = "") -> str:
    """Write the methods text of a run for a paper: data, preparation, model, training, scores.

    Every number is read from the run folder; what the run does not know is marked "[TO BE GIVEN]".

    Parameters
    ----------
    run : str
        A run folder; the runs it started from are described too.
    output : str
        Markdown file to write; empty: print the text.

    Returns
    -------
    str
        The text.

    Raises
    ------
    InputError
        If the folder is not a run, a parent is gone, or its records are damaged.

    Examples
    --------
    fmrilm methods runs/sex
    fmrilm methods runs/sex --output methods.md
    """
    chain = _chain(Path(run))
    lineage, config = chain[-1]
    evaluated = Path(run) / "evaluation"
    results = read_results(evaluated) if (evaluated / "metrics.json").is_file() else []
    cited = {"fmrilm"}
    parts = [
        "## Methods",
        _data(Path(run), lineage),
        _preparation(Path(run), config, cited),
        _model(lineage, config, cited),
        _training(chain),
        _evaluation(results, cited),
        "## Results",
        "\n\n".join(_result(result) for result in results) or "Not evaluated yet.",
        "## References",
        "\n".join(f"- {text}" for name, text in CITATIONS.items() if name in cited),
    ]
    text = "\n\n".join(parts) + "\n"
    if output:
        with replacing(Path(output)) as partial:
            partial.write_text(text, encoding="utf-8")
        print(f"methods in {output}")
    else:
        print(text, end="")
    return text


def _chain(run: Path) -> list[tuple[dict[str, Any], Config]]:
    """Lineage and configuration of the runs from the first stage to this one."""
    if not run.is_dir():
        raise InputError(f"there is no run folder {run}")
    chain: list[tuple[dict[str, Any], Config]] = []
    here: Path | None = run
    while here is not None:
        lineage = read_lineage(here)
        chain.insert(0, (lineage, load_config([here / "config.yaml"])))
        here = find_parent(lineage)
    return chain


def _data(run: Path, lineage: dict[str, Any]) -> str:
    seen = read_trained_on(run)
    parts = []
    for name, about in lineage["cohorts"].items():
        kind = "SYNTHETIC scans (simulated; no measured data)" if about["synthetic"] else "scans"
        who = "[TO BE GIVEN] people"
        if seen is not None:
            rows = seen[seen["cohort"] == name]
            counts = rows.groupby("split")["participant_id"].nunique()
            train, val = (int(counts.get(split, 0)) for split in ("train", "val"))
            who = f"{len(rows)} scans of {train} people for training and {val} for validation"
        parts.append(f"{name}: {kind}; {who}.")
    return (
        "**Data.** "
        + (" ".join(parts) or "[TO BE GIVEN]")
        + " People, not scans, were dealt into training, validation and test sets, so that no "
        "person is in two of them."
    )


def _preparation(run: Path, config: Config, cited: set[str]) -> str:
    path = run / "model" / PROCESSOR
    if not path.is_file():
        return "**Preparation.** [TO BE GIVEN]"
    processor = FMRIProcessor.from_pretrained(path.parent)
    vq = config.model.vq_model
    parts = [
        f"**Preparation.** Series of {vq.num_rois} regions (atlas `{processor.atlas.name}`) and "
        f"{vq.num_timestamp} time points were read."
    ]
    with reading(path, "train the run again"):
        parts += [_recipe(name, recipe, cited) for name, recipe in processor.recipes.items()]
    return " ".join(parts)


def _recipe(name: str, recipe: ScanRecipe, cited: set[str]) -> str:
    words = [f"{name}: repetition time {recipe.t_r:g} s; scaling `{recipe.scaling['norm']}`."]
    if not recipe.settings:
        return f"{words[0]} How its series were made before: [TO BE GIVEN]."
    cited.add("nilearn")
    made = PrepareSettings(**recipe.settings)
    told = _STRATEGIES.get(
        made.strategy, f"Confounds were regressed out (nilearn, `{made.strategy}`)"
    )
    extra = ", ".join(f"{key}={value}" for key, value in made.confounds.items())
    words.append(f"{told}{f' with {extra}' if extra else ''}.")
    cuts = {"high": made.high_pass, "low": made.low_pass}
    band = [f"{side}-pass {cut:g} Hz" for side, cut in cuts.items() if cut is not None]
    if band:
        words.append(f"Series were filtered ({', '.join(band)}).")
    is_auto = made.dummy_scans == "auto"
    which = "found by their columns or their signal" if is_auto else f"{made.dummy_scans} a scan"
    words.append(f"Non-steady-state volumes ({which}) were dropped.")
    words.append(
        f"Scans were resampled to {made.target_t_r:g} s (`{made.resampling}`) and "
        f"{_LENGTHS[made.length].format(n=made.n_timepoints)}; regions of which less than "
        f"{made.min_coverage:.0%} was covered were masked."
    )
    return " ".join(words)


def _model(lineage: dict[str, Any], config: Config, cited: set[str]) -> str:
    vq, lm = config.model.vq_model, config.model.lm
    codes = {
        "vq": f"{vq.codebook_size} codes of {vq.code_dim} numbers",
        "fsq": f"levels {list(vq.fsq_levels)}",
    }.get(vq.quantizer, "")
    kind = f"`{vq.quantizer}`" + (f" ({codes})" if codes else "")
    coded = "" if vq.quantizer == "none" else f"; tokens were quantized by {kind}"
    cited |= {"vq"} & {vq.quantizer} | ({"fsq"} if "fsq" in vq.quantizer else set())
    words = [
        f"**Model.** fMRI-LM (Wei et al., 2025) as implemented in fmrilm "
        f"({lineage.get('code_version', __version__)}). A vision transformer (`{vq.enc_cls}`) "
        f"turned each region's patch of {vq.patch_size} time points into a token{coded}."
    ]
    if vq.num_latent_tokens:
        cited.add("titok")
        words.append(f"Each scan was summed up by {vq.num_latent_tokens} latent tokens (TiTok).")
    if lineage["stage"] == "tokenizer":
        return " ".join(words)
    base = lineage.get("language_model") or {}
    name = base.get("name", lm.base_model)
    what = "a small transformer trained from scratch" if name == "tiny" else f"`{name}`"
    revision = f" (revision {base['revision']})" if base.get("revision") else ""
    read = "The encoder's features" if lm.fmri_input == "continuous" else "The quantized tokens"
    words.append(f"{read} were projected into the input space of {what}{revision}.")
    if lm.peft_tune:
        cited.add("lora")
        words.append(f"It was adapted by LoRA (rank {lm.lora_r}, alpha {lm.lora_alpha}).")
    if lm.summary_tokens:
        told = {
            "signals": "signal families (connectivity, lags, dwell times, spectra, bursts) and of "
            "penalised linear readers of them, which were fitted to the training people's labels",
            "components": f"the {lm.summary_components} leading components of connectivity",
        }[lm.summary]
        words.append(
            f"After the region tokens, summary tokens were read, made of {told}; they are computed "
            "from the series and are not part of the published design."
        )
    return " ".join(words)


def _training(chain: list[tuple[dict[str, Any], Config]]) -> str:
    words = ["**Training.**"]
    for number, (lineage, config) in enumerate(chain, 1):
        train = config.train
        size = train.global_batch_size or train.batch_size * train.gradient_accumulation_steps
        chosen = ", the epoch with the lowest validation loss was kept" if train.select_best else ""
        words.append(
            f"Step {number}: {_STAGES[lineage['stage']]} ({train.epochs} "
            f"epoch{'s' if train.epochs != 1 else ''}, batches of {size} "
            f"scans, AdamW, peak learning rate {train.lr:g}, weight decay {train.weight_decay:g}, "
            f"random seed {train.seed}{chosen})."
        )
    return " ".join(words)


def _evaluation(results: list[TaskResult], cited: set[str]) -> str:
    if not results:
        return "**Evaluation.** Not done yet (`fmrilm evaluate`)."
    cited.add("intervals")
    baselines, controls = (
        ", ".join(dict.fromkeys(row.title for r in results for row in r.of_role(role).values()))
        or "none"
        for role in (BASELINE, CONTROL)
    )
    return (
        "**Evaluation.** Models were fitted to training people and chosen on validation people; "
        "how often the evaluated people had been asked about before stands beside each score. The "
        f"same scans were scored by baselines fitted to the same training people ({baselines}) and "
        f"by the model with parts of its input exchanged or removed ({controls}). 95% intervals "
        "are from leaving out whole people (cluster jackknife; Cameron & Miller, 2015)."
    )


def _result(result: TaskResult) -> str:
    primary = result.style.primary
    scores = "; ".join(
        f"{row.title} {say(row.metrics.get(primary))}" for row in result.predictors.values()
    )
    mark = "SYNTHETIC " if result.synthetic else ""
    verdict = "; ".join(result.verdict[name]["text"] for name in SENTENCES)
    looked = f" Test people: {result.readings['mark']}." if result.readings else ""
    caveat = f" {result.caveat}" if result.caveat else ""
    return (
        f"**{result.task}** ({mark}{result.cohort}, {result.split}, {result.n_subjects} people, "
        f"{result.n_scans} scans; {result.style.primary_title}): {scores}. "
        f"Verdict: {verdict}.{looked}{caveat}"
    )
