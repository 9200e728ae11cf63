"""Results as a table: on the terminal, and in ``summary.md``."""

from __future__ import annotations

import math
from typing import Any

from fmrilm.evaluation.descriptions.descriptions import SHOWN as DESCRIBED
from fmrilm.evaluation.descriptions.descriptions import DescriptionResult
from fmrilm.evaluation.results import MODEL, Predictor, TaskResult
from fmrilm.evaluation.verdict import SENTENCES
from fmrilm.stats.intervals import Estimate
from fmrilm.stats.kinds import Kind

LEAK = "scores as well without the scan: look for a leak"
SYNTHETIC = "SYNTHETIC"
FEW_SUBJECTS = 30  # below, intervals of numbers are somewhat too narrow (guide/evaluation.md)
SHOWN_P = 0.001  # p-values below are not told apart
STYLES = {True: "green", False: "red", None: "yellow"}  # of a sentence that holds, does not, ...
WIDTH = 130  # of the table where the output is no terminal


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


def say_p(p_value: float, smallest: float = 0.0) -> str:
    """Return "p = 0.016 (smallest possible 0.016)" or "p < 0.001"; empty where there is none."""
    if math.isnan(p_value):
        return ""
    limit = f" (smallest possible {smallest:.3f})" if smallest > SHOWN_P else ""
    return "p < 0.001" if p_value < SHOWN_P else f"p = {p_value:.3f}{limit}"


def heading(result: TaskResult) -> str:
    """Return what a block of the table is about, in one line."""
    tag = f"{SYNTHETIC} " if result.synthetic else ""
    text = (
        f"{tag}{result.cohort} · {result.task}: {result.n_scans} scans of {result.n_subjects} "
        f"{result.split} subjects ({result.labels})"
    )
    return f"{text}; {result.n_missing} without a label" if result.n_missing else text


def columns(kind: Kind) -> list[str]:
    """Return the headings of the table of one kind of answer."""
    gap = f"model minus this ({kind.primary_title})"
    return ["", "predictor", *kind.shown.values(), gap, "paired test"]


def rows(result: TaskResult) -> list[list[str]]:
    """Return one row per predictor: role, title, the shown scores, model minus this one, p."""
    kind = result.style
    return [
        [
            "" if found.role == MODEL else found.role,
            title(result, name),
            *(say(found.metrics.get(metric)) for metric in kind.shown),
            say(found.difference.get(kind.primary), signed=True),
            say_p(found.p_value, found.smallest_p),
        ]
        for name, found in result.predictors.items()
    ]


def title(result: TaskResult, name: str) -> str:
    """Return the name of a predictor, marked where it shows a leak."""
    found: Predictor = result.predictors[name]
    if found.role == MODEL and result.answered_by != "words":
        return f"{found.title}, {result.answered_by}"
    if name == "text_only" and result.verdict.get("leak"):
        return f"{found.title} ({LEAK})"
    return found.title


def free_text_line(result: TaskResult) -> str:
    """Return what the free text came to, in one line; empty where none was asked for."""
    found = result.free_text
    if not found:
        return ""
    return (
        f"free text: {found['parsed']} of {found['asked']} answers could be read "
        f"({found['unparsed']} not), {found['right']} right"
    )


def sentences(result: TaskResult) -> list[tuple[bool | None, str]]:
    """Return the sentences of the verdict with whether they hold, and what carries the score."""
    found = [result.verdict[name] for name in SENTENCES]
    told = [(one["holds"], one["text"]) for one in found]
    carried = result.verdict["carried_by"]
    return [*told, (None, carried)] if carried else told


def left_out_line(result: TaskResult) -> str:
    """Return which rows are not in the table and why, in one line; empty where none is missing."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in result.left_out.items():
        by_reason.setdefault(reason, []).append(name)
    parts = [f"{', '.join(names)} ({reason})" for reason, names in by_reason.items()]
    return f"not in the table: {'; '.join(parts)}" if parts else ""


def interval_note(results: list[TaskResult]) -> str:
    """Return what the intervals are, and a warning where there are few subjects."""
    fewest = min((result.n_subjects for result in results), default=0)
    note = "95% intervals over subjects."
    if fewest >= FEW_SUBJECTS or not any(result.style.is_number for result in results):
        return note
    return f"{note} With {fewest} subjects those of r and MAE hold the truth in 91 to 95%."


def make_console(stderr: bool = False) -> Any:
    """Return a console that is wide enough for the tables where the output is no terminal."""
    from rich.console import Console

    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=WIDTH)


def print_results(results: list[TaskResult], title: str, console: Any = None) -> None:
    """Print one table per kind of answer, with a block per cohort and task."""
    console = console or make_console()
    kinds = {tuple(result.style.shown): result.style for result in results}
    for shown, kind in kinds.items():
        of_kind = [result for result in results if tuple(result.style.shown) == shown]
        console.print(_table(of_kind, kind, title))
    for result in results:
        name = f"{result.cohort} · {result.task}"
        for holds, text in sentences(result):
            console.print(f"{name}: {text}", style=STYLES[holds])
        if result.left_out:
            console.print(f"{name}: {left_out_line(result)}", style="dim")
        for warning in filter(None, (result.caveat, *result.scrutiny.get("warnings", []))):
            console.print(f"{name}: {warning}", style="yellow")
        if result.free_text:
            console.print(f"{name}: {free_text_line(result)}", style="dim")
    console.print(interval_note(results), style="dim")


def _table(results: list[TaskResult], kind: Kind, title: str) -> Any:
    from itertools import zip_longest

    from rich.table import Table
    from rich.text import Text

    headings = columns(kind)
    shown = ["cohort · task", *headings[1:-2][:3], headings[-2]]
    table = Table(title=title, title_justify="left", header_style="bold", show_edge=False)
    for index, name in enumerate(shown):
        table.add_column(name, justify="left" if index < 2 else "right")
    for result in results:
        table.add_section()
        cells = [
            ([*row[1:4], row[-2]], found.role)
            for row, found in zip(rows(result), result.predictors.values(), strict=True)
        ]
        for margin, cell in zip_longest(_margin(result), cells):
            text, style = margin or ("", "")
            row, role = cell or ([""] * (len(shown) - 1), "")
            table.add_row(Text(text, style=style), *row, style="bold" if role == MODEL else "")
    return table


def print_descriptions(results: list[DescriptionResult], title: str, console: Any = None) -> None:
    """Print how true and how like the generated descriptions are, beside other texts."""
    from rich.table import Table

    console = console or make_console()
    for result in results:
        tag = f"{SYNTHETIC} " if result.synthetic else ""
        counts = f"{result.n_scans} scans of {result.n_subjects} {result.split} subjects"
        about = f"{title}\n{tag}{result.cohort} · describe: {counts}"
        table = Table(title=about, title_justify="left", header_style="bold", show_edge=False)
        table.add_column("text", no_wrap=True)
        gap = f"model minus this ({DESCRIBED[result.primary]})"
        for index, name in enumerate([*DESCRIBED.values(), gap]):
            widest = max(len(word) for word in name.split())
            whole = index in (0, len(DESCRIBED))  # cells with an interval
            table.add_column(name, justify="right", min_width=widest, no_wrap=whole)
        for found in result.predictors.values():
            scores = [found.metrics[metric] for metric in DESCRIBED]
            others = ["n/a" if math.isnan(one.value) else f"{one.value:.3f}" for one in scores[1:]]
            difference = say(found.difference.get(result.primary), signed=True)
            style = "bold" if found.role == MODEL else ""
            table.add_row(found.title, say(scores[0]), *others, difference, style=style)
        console.print(table)
        text = f"{result.cohort} · describe: {result.verdict}"
        console.print(text, style=STYLES[result.scan_adds])


def _margin(result: TaskResult) -> list[tuple[str, str]]:
    """Return the lines of the first column, with their styles."""
    adds = result.verdict["scan_adds"]
    lines = [(f"{result.cohort} · {result.task}", "bold")]
    if result.synthetic:
        lines.append((SYNTHETIC, "bold yellow"))
    lines.append((f"{result.n_scans} scans, {result.n_subjects} subjects", "dim"))
    words = {True: "reads the scan", False: "no use of the scan", None: "scan's worth unknown"}
    lines.append((words[adds], STYLES[adds]))
    return [*lines, ("LEAK?", "bold red")] if result.verdict.get("leak") else lines


def to_markdown(results: list[TaskResult], title: str) -> str:
    """Return the same table as Markdown, one per cohort and task."""
    lines = [f"# {title}", "", interval_note(results), ""]
    for result in results:
        lines += [f"## {heading(result)}", ""]
        if result.synthetic:
            lines += ["**SYNTHETIC data: says nothing about people.**", ""]
        headings = columns(result.style)
        lines.append(f"| {' | '.join(headings)} |")
        lines.append("|" + "---|" * len(headings))
        lines += [f"| {' | '.join(row)} |" for row in rows(result)]
        lines.append("")
        for holds, text in sentences(result):
            mark = "**Mind:** " if holds is False else ""
            lines += [f"{mark}{text[0].upper()}{text[1:]}.", ""]
        if result.left_out:
            line = left_out_line(result)
            lines += [f"{line[0].upper()}{line[1:]}.", ""]
        for warning in (result.caveat, *result.scrutiny.get("warnings", [])):
            lines += [f"**Mind:** {warning}.", ""] if warning else []
        if result.free_text:
            lines += [f"{free_text_line(result)}.", ""]
    return "\n".join(lines)
