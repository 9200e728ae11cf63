"""The command line: a table of plain functions, imported only when their verb is called.

What the command line can do, Python can do with the same function. Options are the function's
parameters, their help is its numpydoc docstring.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_type_hints


@dataclass(frozen=True)
class Command:
    """One verb: where its function is, and its line in ``fmrilm --help``."""

    target: str  # "module:function"
    summary: str
    passes_flags: bool = False  # unknown --flags go to the `overrides` argument


COMMANDS = {
    "demo-data": Command("fmrilm.data.pain:demo_data", "Build the real pain cohort."),
    "prepare": Command("fmrilm.data.prepare:prepare", "Turn scans into a cohort folder."),
    "doctor": Command("fmrilm.data.doctor:doctor", "Say what is wrong with a scan or store."),
    "audit": Command("fmrilm.data.audit:audit", "Look for leaks over splits, stages, prompts."),
    "pack": Command("fmrilm.data.pack:pack", "Write a copy of a cohort for fast reading."),
    "atlas": Command("fmrilm.data.atlas_sources:atlas", "Build label images."),
    "simulate": Command("fmrilm.data.synthetic:simulate", "Write a synthetic cohort."),
    "describe": Command("fmrilm.data.describe:describe", "Write text descriptors of a cohort."),
    "corpus": Command("fmrilm.data.corpus:corpus", "Turn text files into a token file."),
    "train": Command("fmrilm.training.build:train_stage", "Train one of the three stages.", True),
    "merge": Command("fmrilm.training.merge:merge", "Merge adapters into the language model."),
    "evaluate": Command("fmrilm.evaluation.evaluate:evaluate", "Score runs beside baselines."),
    "benchmark": Command("fmrilm.reporting.benchmark:benchmark", "Compare runs on one page."),
    "explain": Command("fmrilm.evaluation.explain:explain", "Show the regions answers rest on."),
    "embed": Command("fmrilm.evaluation.embed:embed", "Write features or codes of scans."),
    "report": Command("fmrilm.reporting.report:report", "Make the HTML report of runs."),
    "demo": Command("fmrilm.demo:demo", "Run the whole pipeline on real and synthetic data."),
}
EXAMPLE = "Start with: fmrilm demo"


def main(arguments: list[str] | None = None) -> None:
    """Run ``fmrilm`` with ``arguments`` (default: those of the process) and exit.

    Exit codes: 0 done, 1 a check failed, 2 wrong input (one sentence on stderr), 3 partly done.
    """
    from rich.console import Console

    from fmrilm.errors import InputError

    words = sys.argv[1:] if arguments is None else arguments
    app = _build_app(words[0] if words else "")
    try:
        code = app(words, standalone_mode=False)
    except (InputError, FileNotFoundError) as error:
        Console(stderr=True).print(f"fmrilm: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("fmrilm: interrupted")
        sys.exit(130)
    except Exception as error:
        show = getattr(error, "show", None)  # a usage error of typer
        if show is None:
            raise
        show()
        sys.exit(getattr(error, "exit_code", 2))
    sys.exit(code if isinstance(code, int) else 0)


def _build_app(verb: str) -> Any:
    import typer

    app = typer.Typer(
        help="fmrilm: language-aligned fMRI models whose numbers can be believed.",
        epilog=EXAMPLE,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
    )

    @app.callback()
    def _root() -> None: ...

    for name, command in COMMANDS.items():
        if name == verb:
            _add(app, name, command)
        else:
            app.command(name, help=command.summary)(lambda: None)
    return app


def _add(app: Any, name: str, command: Command) -> None:
    module, _, attribute = command.target.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    settings = {"ignore_unknown_options": True} if command.passes_flags else {}
    doc = inspect.getdoc(function) or command.summary
    example = doc.partition("Examples\n--------")[2].strip()
    app.command(
        name,
        help=doc.split("\n\n")[0],
        epilog=example.replace("\n", "\n\n") or None,
        context_settings=settings,
    )(_with_options(function))


def _with_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` with typer options made from its signature and docstring."""
    import typer

    helps = parameter_help(inspect.getdoc(function) or "")
    hints = get_type_hints(function)
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        text = helps.get(parameter.name, "")
        keyword_only = parameter.kind is inspect.Parameter.KEYWORD_ONLY
        option: Any
        if keyword_only:
            names = [f"--{parameter.name}"]
            if "_" in parameter.name:
                names.append(f"--{parameter.name.replace('_', '-')}")
            if parameter.name in ("config", "output"):
                names.append(f"-{parameter.name[0]}")
            is_flag = hints[parameter.name] is bool
            if is_flag:
                names[0] += f"/--no-{parameter.name}"
            option = typer.Option(*names, help=text)
        else:
            option = typer.Argument(help=text)
        kind = hints[parameter.name]
        if type(None) in get_args(kind) and parameter.default is None:
            kind = kind if len(get_args(kind)) == 2 else str
        parameters.append(
            parameter.replace(
                kind=inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, option]
            )
        )

    def call(**values: Any) -> Any:
        positional = [
            values.pop(p.name)
            for p in inspect.signature(function).parameters.values()
            if p.kind is not inspect.Parameter.KEYWORD_ONLY
        ]
        return function(*positional, **values)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    return call


def parameter_help(docstring: str) -> dict[str, str]:
    """Return the description of each parameter in a numpydoc docstring."""
    section = re.search(r"Parameters\n-+\n(.*?)(?:\n\n[A-Z]\w+\n-+\n|\Z)", docstring, re.S)
    if section is None:
        return {}
    helps = {}
    for block in re.split(r"\n(?=\S)", section[1]):
        head, _, body = block.partition("\n")
        for name in head.partition(" : ")[0].split(","):
            helps[name.strip().lstrip("*")] = " ".join(body.split())
    return helps
