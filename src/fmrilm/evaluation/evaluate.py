"""`fmrilm evaluate`: the scores of a run beside its baselines and controls."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from fmrilm.errors import InputError
from fmrilm.evaluation.answering import Settings
from fmrilm.evaluation.asking import Plan, carry_out, make_plan
from fmrilm.evaluation.describing import write_descriptions
from fmrilm.evaluation.results import TaskResult, print_json, write_results
from fmrilm.evaluation.runs import Run, note_reading, open_cohorts, open_run
from fmrilm.evaluation.seeds import summarise_seeds
from fmrilm.evaluation.table import print_descriptions, print_results, to_markdown
from fmrilm.evaluation.tokenizers import evaluate_tokenizer


def evaluate(
    runs: list[str],
    *,
    output: str | None = None,
    datasets: str | None = None,
    tasks: str | None = None,
    split: str = "test",
    batch_size: int = 32,
    use_allowed_tokens: bool = True,
    free_text: bool = True,
    baselines: str = "standard",
    controls: str = "standard",
    scrutiny: bool = True,
    answer: str = "words",
    samples: int = 4,
    n_resamples: int = 2000,
    seed: int = 0,
    strict: bool = False,
    text_model: str | None = None,
    json: bool = False,
) -> list[TaskResult]:
    """Score runs on held-out subjects, beside plain baselines and controls without the scan.

    Answers are scored by the log-probability of each candidate, so nothing is sampled and a second
    call gives the same numbers; one that was interrupted goes on where it stopped. A run's results
    are ``metrics.json``, ``controls.json``, ``predictions.csv``, ``comparison.csv``,
    ``generations.json`` and ``summary.md``, of descriptions ``descriptions.json`` and ``.csv``.
    Runs that differ in nothing but the seed are summed up. Reading the test split is noted in the
    run folder.

    Parameters
    ----------
    runs : list of str
        Run folders of stage align or instruct; or of stage tokenizer alone, for what its tokens
        keep of a scan, beside PCA of equal bits.
    output : str, optional
        Folder for the results (one subfolder per run if there are several); without it
        <run>/evaluation.
    datasets : str, optional
        Comma-separated names of cohorts the run was trained on, or folders of others; without it
        all it was trained on.
    tasks : str, optional
        Comma-separated tasks; without it those the run was trained on. With ``describe`` the
        scans are described, and the texts scored against what was measured in them.
    split : str
        train, val or test.
    batch_size : int
        Scans scored at once.
    use_allowed_tokens : bool
        Choose among the task's answers; otherwise the free text is the answer, and one that
        cannot be read is wrong.
    free_text : bool
        Also let the model write its answer, and count what can be read.
    baselines : str
        standard, all, none, or comma-separated names of baselines.
    controls : str
        standard (text only, shuffled, zero) or all (also randomised phases, the cohort's sentence
        alone, and every wording of the question).
    scrutiny : bool
        Also calibration (fitted on val), prediction sets, confounds, and gaps between groups.
    answer : str
        What answers: words (the language model: probabilities of the answers, the expected value
        of a number) or head (the classification or regression head of a run with use_cls_head).
    samples : int
        Scans that are described in free text.
    n_resamples : int
        Bootstrap resamples of the subjects.
    seed : int
        Of the resamples and of the shuffled scans.
    strict : bool
        Exit with 1 if there is a task to which the scan adds nothing.
    text_model : str, optional
        Folder or name of a text encoder, for the BERTScore of descriptions.
    json : bool
        Print the results to standard output as JSON, and everything else to standard error.

    Returns
    -------
    list of TaskResult
        One per run, cohort and task.

    Raises
    ------
    InputError
        If a cohort does not fit the model, a task is unknown, a label column is absent, or the
        split is empty.
    FileNotFoundError
        If a run or cohort folder is incomplete.

    Examples
    --------
    fmrilm evaluate runs/instruct
    fmrilm evaluate runs/instruct --datasets UKB,HCP --split val --batch_size 64
    fmrilm evaluate runs/align --tasks describe
    fmrilm evaluate runs/seed1 runs/seed2 runs/seed3
    """
    if not use_allowed_tokens and not free_text:
        raise InputError("--no-use_allowed_tokens takes the free text: drop --no-free_text")
    if controls not in ("standard", "all"):
        raise InputError(f"unknown controls {controls!r}: use standard or all")
    if answer not in ("words", "head"):
        raise InputError(f"unknown answer {answer!r}: use words or head")
    settings = Settings(
        split,
        batch_size,
        use_allowed_tokens,
        free_text,
        baselines,
        controls,
        scrutiny,
        n_resamples,
        seed,
        answer == "head",
        text_model,
    )
    asked = [name.strip() for name in tasks.split(",")] if tasks else []
    opened = [open_run(folder) for folder in runs]
    names = [run.folder.resolve().name for run in opened]
    if output and len(set(names)) < len(names):
        raise InputError("two runs have the same folder name: evaluate them one by one")
    folders = [
        run.folder / "evaluation"
        if output is None
        else Path(output) / (name if len(opened) > 1 else "")
        for run, name in zip(opened, names, strict=True)
    ]
    with redirect_stdout(sys.stderr) if json else nullcontext():
        if not tasks and all(run.stage == "tokenizer" for run in opened):
            content = _tokenizers(opened, folders, datasets, split, batch_size)
            results: list[TaskResult] = []
            holds = True
        else:
            plans = [make_plan(run, datasets, asked, settings) for run in opened]
            results, content, holds = _language_models(plans, folders, settings, samples)
    if json:
        print_json(content)
    if strict and not holds:
        raise SystemExit(1)
    return results


def _tokenizers(
    runs: list[Run], folders: list[Path], datasets: str | None, split: str, batch_size: int
) -> dict[str, Any]:
    """Evaluate stage-1 runs; return what goes into JSON."""
    found = []
    for run, folder in zip(runs, folders, strict=True):
        results = evaluate_tokenizer(run, open_cohorts(run, datasets), split, batch_size, folder)
        found.append({"run": str(run.folder), "results": results})
    return {"runs": found, "seeds": []}


def _language_models(
    plans: list[Plan], folders: list[Path], settings: Settings, samples: int
) -> tuple[list[TaskResult], dict[str, Any], bool]:
    """Evaluate, print and write; return results, what goes into JSON, and whether scans add."""
    found, contents, holds = [], [], True
    for plan, folder in zip(plans, folders, strict=True):
        run = plan.run
        results, described = carry_out(plan, settings, folder, samples)
        title = f"{run.folder} · {settings.split} subjects"
        content: dict[str, Any] = {"run": str(run.folder)}
        if results:
            write_results(folder, str(run.folder), results)
            (folder / "summary.md").write_text(to_markdown(results, title), encoding="utf-8")
            print_results(results, title)
            content["results"] = [result.to_dict() for result in results]
        if described:
            write_descriptions(folder, described)
            print_descriptions(described, title)
            content["descriptions"] = [result.to_dict() for result in described]
        if settings.split == "test":
            asked = [f"{one.cohort}:{one.task}" for one in results]
            count = note_reading(run, [*asked, *(f"{d.cohort}:describe" for d in described)])
            print(f"times the test subjects were read for this run: {count}")
        print(f"results in {folder}")
        holds &= all(result.verdict["scan_adds"] for result in results)
        holds &= all(result.scan_adds for result in described)
        found.append((run, results))
        contents.append(content)
    summaries = summarise_seeds(found)
    for summary in summaries:
        print(summary.line())
    seeds = [summary.to_dict() for summary in summaries]
    return (
        [one for _, results in found for one in results],
        {"runs": contents, "seeds": seeds},
        holds,
    )
