"""`fmrilm ask`: what a trained run says about a scan, what it is worth, how unusual the scan is."""

from __future__ import annotations

import json as json_format
import sys
from typing import Any

from fmrilm.asking.pipeline import NOT_SURE, Answer, FMRIPipeline
from fmrilm.errors import InputError
from fmrilm.processing.recipes import ReadyScan

BAR = 24  # characters of a full bar


def ask(
    run: str,
    scans: list[str] | None = None,
    *,
    question: str | None = None,
    cohort: str | None = None,
    settings: str = "",
    device: str = "auto",
    json: bool = False,
) -> int:
    """Ask a trained run about scans: all its questions, or one.

    A scan is prepared as the training scans were (regions, confounds beside it, repetition time,
    length, scaling). Beside each answer stands what it is worth: the run's own held-out score and
    its controls; and how unlike the training scans the scan is. Not for clinical use.

    Parameters
    ----------
    run : str
        Run folder of stage align or instruct.
    scans : list of str
        Scan files (NIfTI, CIFTI, tables, NPY, MAT) or COHORT_FOLDER:SUBJECT; ``-`` reads one per
        line from standard input.
    question : str, optional
        One of the run's tasks, or any question; None: all tasks.
    cohort : str, optional
        Training cohort whose preparation is followed; None: the first.
    settings : str
        Settings of `fmrilm prepare` that differ, comma-separated: ``strategy=none,t_r=2``.
    device : str
        auto (a GPU if there is one), cpu, cuda, ...
    json : bool
        One JSON object per scan and line.

    Raises
    ------
    InputError
        If there is no scan, or one does not fit the model.

    Examples
    --------
    fmrilm ask runs/instruct sub-01_desc-preproc_bold.nii.gz
    fmrilm ask runs/instruct data/UKB:sub-0001 --question sex
    fmrilm ask runs/instruct scan.nii.gz --question "Is the default mode network unusual?"
    ls *.nii.gz | fmrilm ask runs/instruct - --json
    """
    words = scans or []
    if not words:
        raise InputError(f"name a scan: fmrilm ask {run} SCAN")
    if words == ["-"]:
        words = [line.strip() for line in sys.stdin if line.strip()]
    pipeline = FMRIPipeline(run, cohort, device)
    changes = [pair.strip() for pair in settings.split(",") if pair.strip()]
    for word in words:
        for ready in pipeline.scans(word, changes):
            if json:
                print(json_format.dumps(pipeline(ready, question).to_dict()), flush=True)
            else:
                _show(pipeline, ready, question)
    return 0


def _show(pipeline: FMRIPipeline, scan: ReadyScan, question: str | None) -> None:
    """Print the answers about one scan; a free one as it is written."""
    from rich.console import Console

    console = Console(highlight=False)
    about = pipeline.about(scan)
    style = "dim" if about.drift is not None and about.drift.is_unlike else ""

    def say(line: str, look: str = style, end: str = "\n") -> None:
        console.print(line, style=look, markup=False, soft_wrap=True, end=end)

    say(f"{about.scan} (prepared like {about.cohort})", "bold")
    for note in about.notes:
        say(f"  {note}", "")
    if about.drift is not None:
        say(f"  {about.drift.text}", "yellow" if about.drift.is_unlike else "")
    if about.synthetic:
        say("  the model was trained on SYNTHETIC scans: its answers say nothing about people", "")
    if about.description is not None:
        say("\nMeasured in this scan (not the model's words)", f"{style} bold".strip())
        say(f"  {about.description}")
    streamed: list[str] = []

    def stream(piece: str) -> None:
        if not streamed:
            say(f"\n{question}", f"{style} bold".strip())
            say("  ", end="")
        streamed.append(piece)
        say(piece, end="")

    for answer in pipeline.answers(scan, question, stream):
        if streamed:
            say("")
            for line in _claim_lines(answer):
                say(f"  {line}")
        else:
            say(f"\n{answer.question}", f"{style} bold".strip())
            for line in _lines(answer):
                say(f"  {line}")
        say(f"  worth: {answer.worth}", "dim")
    say("")


def _lines(answer: Answer) -> list[str]:
    lines: list[Any] = [answer.text]
    if answer.text == NOT_SURE:
        lines = [f"{NOT_SURE}: no answer is probable enough"]
    width = max((len(name) for name in answer.probabilities), default=0)
    for name, share in answer.probabilities.items():
        bar = "█" * round(BAR * share)
        lines.append(f"{name:<{width}} {share:6.1%} {bar}")
    return lines


def _claim_lines(answer: Answer) -> list[str]:
    """What a free answer claims of the scan, each claim with its verdict."""
    if not answer.claims:
        return ["nothing in it can be checked against the scan's connectivity"]
    return [
        f"{claim.verdict}: {claim.text}" + (f" ({', '.join(claim.wrong)})" if claim.wrong else "")
        for claim in answer.claims
    ]
