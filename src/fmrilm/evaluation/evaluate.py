"""`fmrilm evaluate`: the scores of a run beside its baselines and controls."""

from __future__ import annotations

import sys
from contextlib import ExitStack, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from fmrilm.cohort.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.evaluation.asking import Plan, carry_out, made_from, make_plan
from fmrilm.evaluation.descriptions.descriptions import TASK as DESCRIBE
from fmrilm.evaluation.descriptions.descriptions import write_descriptions
from fmrilm.evaluation.options import EvaluationOptions
from fmrilm.evaluation.pooled.folds import summarise_folds, write_folds
from fmrilm.evaluation.pooled.seeds import summarise_seeds
from fmrilm.evaluation.readings import Readings, note_reading
from fmrilm.evaluation.results import TaskResult, print_json, write_results
from fmrilm.evaluation.runs import Run, open_cohorts, open_run, with_config
from fmrilm.evaluation.table import print_descriptions, print_results, to_markdown
from fmrilm.evaluation.tokenizer.report import evaluate_tokenizer
from fmrilm.files import SEAL, write_seal
from fmrilm.lineage.card import write_card
from fmrilm.locks import writing


def evaluate(
    runs: list[str] | None = None, options: EvaluationOptions | None = None, **changes: Any
) -> list[TaskResult]:
    """Score runs on held-out subjects, beside plain baselines and controls without the scan.

    Answers are scored by the log-probability of each whole candidate, so nothing is sampled and a
    second call gives the same numbers; one that was interrupted goes on where it stopped. A run's
    results are ``metrics.json``, ``controls.json``, ``predictions.csv``, ``comparison.csv``,
    ``generations.json`` and ``summary.md``, of descriptions ``descriptions.json`` and ``.csv``.
    Runs that differ in nothing but the seed are summed up; of runs on the folds of one cohort
    (`fmrilm folds`) also the people of all folds together, and each person alone. Reading the test
    split is noted in the cohort folder, and results are marked as untouched or looked at before.

    Parameters
    ----------
    runs : list of str
        Run folders of stage align or instruct; or of stage tokenizer alone, for what its tokens
        keep of a scan, beside PCA of equal bits. ``RUN/ckpt.pt`` stands for RUN.
    options : EvaluationOptions, optional
        All options at once; on the command line each is a flag.
    **changes
        Single options by name: ``evaluate(runs, split="val", batch_size=8)``.

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
    fmrilm evaluate runs/fold0 runs/fold1 runs/fold2 runs/fold3 runs/fold4 -o all-people
    """
    options = replace(options or EvaluationOptions(), **changes)
    named = [*(runs or []), *([options.checkpoint] if options.checkpoint else [])]
    if not named:
        raise InputError("name a run to evaluate: fmrilm evaluate RUN")
    opened = [with_config(open_run(run), options.config or [], options.lm_name) for run in named]
    folders = _folders(opened, options.output)
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(writing(folder))
        if options.json:
            stack.enter_context(redirect_stdout(sys.stderr))
        if not options.tasks and all(run.stage == "tokenizer" for run in opened):
            content = _tokenizers(opened, folders, options)
            results: list[TaskResult] = []
            holds = True
        else:
            plans = [make_plan(run, options) for run in opened]
            results, content, holds = _language_models(plans, folders, options)
    if options.json:
        print_json(content)
    if options.strict and not holds:
        raise SystemExit(1)
    return results


def _folders(runs: list[Run], output: str | None) -> list[Path]:
    """The folder for the results of each run."""
    if output is None:
        return [run.folder / "evaluation" for run in runs]
    names = [run.folder.resolve().name for run in runs]
    if len(set(names)) < len(names):
        raise InputError("two runs have the same folder name: evaluate them one by one")
    return [Path(output) / name for name in names] if len(runs) > 1 else [Path(output)]


def _tokenizers(runs: list[Run], folders: list[Path], options: EvaluationOptions) -> dict[str, Any]:
    """Evaluate stage-1 runs; their content of the JSON output."""
    contents = []
    for run, folder in zip(runs, folders, strict=True):
        cohorts = open_cohorts(run, options.datasets)
        results = evaluate_tokenizer(run, cohorts, options, folder)
        contents.append({"run": str(run.folder), "results": results})
    return {"runs": contents, "seeds": []}


def _language_models(
    plans: list[Plan], folders: list[Path], options: EvaluationOptions
) -> tuple[list[TaskResult], dict[str, Any], bool]:
    """Evaluate, print and write; return results, what goes into JSON, and whether scans add."""
    evaluated, contents, holds = [], [], True
    earlier: dict[Path, Readings] = {}
    for plan, folder in zip(plans, folders, strict=True):
        run = plan.run
        results, described = carry_out(plan, options, folder)
        if options.scored_split == "test":
            earlier = earlier or _note_readings(plans)
            results = [_marked(one, one.task, plan, earlier) for one in results]
            described = [_marked(one, DESCRIBE, plan, earlier) for one in described]
        title = f"{run.folder} · {options.scored_split} subjects"
        content: dict[str, Any] = {"run": str(run.folder)}
        if results:
            write_results(folder, str(run.folder), results, made_from(plan, options))
            text = to_markdown(results, title) + _marks(results)
            (folder / "summary.md").write_text(text, encoding="utf-8")
            print_results(results, title)
            content["results"] = [result.to_dict() for result in results]
        if described:
            write_descriptions(folder, described)
            print_descriptions(described, title)
            content["descriptions"] = [result.to_dict() for result in described]
        shown = [path.name for path in sorted(folder.glob("[!.]*.*")) if path.name != SEAL]
        write_seal(folder, shown)
        if folder == run.folder / "evaluation":
            write_card(run.folder)
        print(f"results in {folder}")
        holds &= all(result.verdict["scan_adds"] for result in results)
        holds &= all(result.scan_adds for result in described)
        evaluated.append((run, results))
        contents.append(content)
    summaries = summarise_seeds(evaluated)
    for summary in summaries:
        print(summary.line())
    content = {"runs": contents, "seeds": [summary.to_dict() for summary in summaries]}
    folds = summarise_folds(evaluated, options)
    if folds:
        folds_folder = (Path(options.output) if options.output else folders[0]) / "folds"
        write_folds(folds_folder, folds)
        for fold in folds:
            print("\n".join(fold.lines()))
        print(f"all folds in {folds_folder}")
        content["folds"] = [fold.to_dict() for fold in folds]
    return [one for _, results in evaluated for one in results], content, holds


def _note_readings(plans: list[Plan]) -> dict[Path, Readings]:
    """Note, once for all runs of this command, whose test people are read; by cohort folder."""
    asked: dict[Path, tuple[Cohort, list[str], list[Path]]] = {}
    for plan in plans:
        for cohort in plan.cohorts.values():
            _, tasks, runs = asked.setdefault(cohort.folder, (cohort, [], []))
            tasks += [one.task.name for one in plan.questions if one.cohort is cohort]
            tasks += [DESCRIBE for one in plan.described if one is cohort]
            runs.append(plan.run.folder)
    return {folder: note_reading(*about) for folder, about in asked.items()}


def _marked(result: Any, task: str, plan: Plan, earlier: dict[Path, Readings]) -> Any:
    folder = next(one.folder for one in plan.cohorts.values() if one.name == result.cohort)
    return replace(result, readings=earlier[folder].of(task, plan.run.folder))


def _marks(results: list[TaskResult]) -> str:
    """Return a line for every result that says whether its test people were looked at before."""
    marked = [one for one in results if one.readings]
    return "".join(
        f"\n{one.cohort} · {one.task}: test people {one.readings['mark']}\n" for one in marked
    )
