"""Results as a table: on the terminal, and in ``summary.md``."""

from __future__ import annotations

import math
from typing import Any

from fmrilm.evaluation.intervals import Estimate
from fmrilm.evaluation.metrics import PRIMARY
from fmrilm.evaluation.results import MODEL, TaskResult

SHOWN = {PRIMARY: "AUC", "balanced_accuracy": "balanced acc.", "f1": "F1"}
SYNTHETIC = "SYNTHETIC"
FEW_SUBJECTS = 20  # below, the bootstrap over subjects is known to be optimistic
WIDTH = 120  # of the table where the output is no terminal


def say(estimate: Estimate | None, signed: bool = False) -> str:
    """Return "0.912 [0.87, 0.95]"; n/a with the reason where the score is undefined."""
    if estimate is None:
        return ""
    if math.isnan(estimate.value):
        return f"n/a ({estimate.reason})"
    sign = "+" if signed else ""
    text = f"{estimate.value:{sign}.3f}"
    if math.isnan(estimate.low):
        return f"{text} ({estimate.reason})" if estimate.reason else text
    return f"{text} [{estimate.low:{sign}.2f}, {estimate.high:{sign}.2f}]"


def say_p(p_value: float) -> str:
    """Return "p = 0.012" or "p < 0.001"; empty where there is none."""
    if math.isnan(p_value):
        return ""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def heading(result: TaskResult) -> str:
    """Return what a block of the table is about, in one line."""
    counts = ", ".join(f"{count} {name}" for name, count in result.class_counts.items())
    tag = f"{SYNTHETIC} " if result.synthetic else ""
    text = (
        f"{tag}{result.cohort} · {result.task}: {result.n_scans} scans of {result.n_subjects} "
        f"{result.split} subjects ({counts})"
    )
    return f"{text}; {result.n_missing} without a label" if result.n_missing else text


def rows(result: TaskResult) -> list[list[str]]:
    """Return one row per predictor: role, title, the shown scores, model minus this one, p."""
    return [
        [
            "" if found.role == MODEL else found.role,
            found.title,
            *(say(found.metrics.get(metric)) for metric in SHOWN),
            say(found.difference.get(PRIMARY), signed=True),
            say_p(found.p_value),
        ]
        for found in result.predictors.values()
    ]


COLUMNS = ["", "predictor", *SHOWN.values(), "model minus this (AUC)", "paired test"]


def free_text_line(result: TaskResult) -> str:
    """Return what the free text came to, in one line; empty where none was asked for."""
    found = result.free_text
    if not found:
        return ""
    return (
        f"free text: {found['parsed']} of {found['asked']} answers could be read "
        f"({found['unparsed']} not), {found['right']} right"
    )


def interval_note(results: list[TaskResult]) -> str:
    """Return what the intervals are, and a warning where there are few subjects."""
    fewest = min((result.n_subjects for result in results), default=0)
    note = "95% intervals: bootstrap over subjects."
    if fewest >= FEW_SUBJECTS:
        return note
    return f"{note} With {fewest} subjects they tend to be too narrow: read them as a lower bound."


def print_results(results: list[TaskResult], title: str, console: Any = None) -> None:
    """Print one table with a block per cohort and task."""
    from itertools import zip_longest

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if console is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDTH)
    columns = ["cohort · task", *COLUMNS[1:4], COLUMNS[-2]]
    table = Table(title=title, title_justify="left", header_style="bold", show_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index < 2 else "right")
    for result in results:
        table.add_section()
        cells = [
            ([*row[1:4], row[-2]], found.role)
            for row, found in zip(rows(result), result.predictors.values(), strict=True)
        ]
        for margin, cell in zip_longest(_margin(result), cells):
            text, style = margin or ("", "")
            row, role = cell or ([""] * (len(columns) - 1), "")
            table.add_row(Text(text, style=style), *row, style="bold" if role == MODEL else "")
    console.print(table)
    for result in results:
        if not result.verdict["scan_adds"]:
            console.print(f"{result.cohort} · {result.task}: {result.verdict['text']}", style="red")
        for warning in result.scrutiny.get("confounds", {}).get("warnings", []):
            console.print(f"{result.cohort} · {result.task}: {warning}", style="yellow")
        if result.free_text:
            console.print(f"{result.cohort} · {result.task}: {free_text_line(result)}", style="dim")
    console.print(interval_note(results), style="dim")


def _margin(result: TaskResult) -> list[tuple[str, str]]:
    """Return the lines of the first column, with their styles."""
    adds = result.verdict["scan_adds"]
    lines = [(f"{result.cohort} · {result.task}", "bold")]
    if result.synthetic:
        lines.append((SYNTHETIC, "bold yellow"))
    lines.append((f"{result.n_scans} scans, {result.n_subjects} subjects", "dim"))
    words = {True: "the scan adds", False: "scan adds nothing", None: "scan's worth unknown"}
    colors = {True: "green", False: "bold red", None: "yellow"}
    return [*lines, (words[adds], colors[adds])]


def to_markdown(results: list[TaskResult], title: str) -> str:
    """Return the same table as Markdown, one per cohort and task."""
    lines = [f"# {title}", "", interval_note(results), ""]
    for result in results:
        lines += [f"## {heading(result)}", ""]
        if result.synthetic:
            lines += ["**SYNTHETIC data: says nothing about people.**", ""]
        lines.append(f"| {' | '.join(COLUMNS)} |")
        lines.append("|" + "---|" * len(COLUMNS))
        lines += [f"| {' | '.join(row)} |" for row in rows(result)]
        mark = "" if result.verdict["scan_adds"] else "**Mind:** "
        lines += ["", f"{mark}{result.verdict['text']}.", ""]
        for warning in result.scrutiny.get("confounds", {}).get("warnings", []):
            lines += [f"**Mind:** {warning}.", ""]
        if result.free_text:
            lines += [f"{free_text_line(result)}.", ""]
    return "\n".join(lines)
