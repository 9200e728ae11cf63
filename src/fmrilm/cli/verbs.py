"""The command line: a table of plain functions, imported only when their verb is called.

What the command line can do, Python can do with the same function. Options are the function's
parameters, their help is its numpydoc docstring.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, is_dataclass
from typing import Annotated, Any, get_args, get_type_hints


@dataclass(frozen=True)
class Command:
    """One verb: where its function is, and its line in ``fmrilm --help``."""

    target: str  # "module:function"
    summary: str
    passes_flags: bool = False  # unknown --flags go to the `overrides` argument
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # parameter -> more names
    settings: str = ""  # "module:dataclass" of its key=value settings


COMMANDS = {
    "demo-data": Command("fmrilm.datasets.heat_pain:demo_data", "Build the real pain cohort."),
    "prepare": Command(
        "fmrilm.preparation.prepare:prepare",
        "Turn scans into a cohort folder.",
        settings="fmrilm.preparation.scan:PrepareSettings",
    ),
    "doctor": Command("fmrilm.checks.doctor:doctor", "Say what is wrong with a scan or store."),
    "audit": Command("fmrilm.checks.audit:audit", "Look for leaks over splits, stages, prompts."),
    "folds": Command(
        "fmrilm.datasets.folds:make_folds", "Deal people into folds, each tested once."
    ),
    "pack": Command("fmrilm.cohort.pack:pack", "Write a copy of a cohort for fast reading."),
    "atlas": Command("fmrilm.atlases.build:atlas", "Build label images."),
    "simulate": Command("fmrilm.datasets.synthetic.cohort:simulate", "Write a synthetic cohort."),
    "describe": Command(
        "fmrilm.description.describe:describe", "Write text descriptors of a cohort."
    ),
    "corpus": Command("fmrilm.training.data.corpus:corpus", "Turn text files into a token file."),
    "train": Command("fmrilm.training.build:train_stage", "Train one of the three stages.", True),
    "import": Command(
        "fmrilm.importing.checkpoint:import_checkpoint", "Read a checkpoint of the original."
    ),
    "merge": Command("fmrilm.training.merge:merge", "Merge adapters into the language model."),
    "evaluate": Command(
        "fmrilm.evaluation.evaluate:evaluate",
        "Score runs beside baselines.",
        also={"output": ("--output_dir",), "config": ("--cfg_path",)},
    ),
    "ask": Command("fmrilm.asking.ask:ask", "Ask a trained run about a scan."),
    "web": Command("fmrilm.web.web:web", "Ask trained runs about scans in a browser."),
    "benchmark": Command("fmrilm.reporting.benchmark:benchmark", "Compare runs on one page."),
    "explain": Command("fmrilm.explanation.explain:explain", "Show the regions answers rest on."),
    "embed": Command(
        "fmrilm.evaluation.tokenizer.embed:embed", "Write features or codes of scans."
    ),
    "report": Command("fmrilm.reporting.report:report", "Make the HTML report of runs."),
    "methods": Command("fmrilm.reporting.methods:methods", "Write the methods text for a paper."),
    "demo": Command("fmrilm.cli.demo:demo", "Run the whole pipeline on real and synthetic data."),
}
EXAMPLE = "Start with: fmrilm demo"


def main(arguments: list[str] | None = None) -> None:
    """Run ``fmrilm`` with ``arguments`` (default: those of the process) and exit.

    Exit codes: 0 done, 1 a check failed or a fault of ours (with its traceback), 2 wrong input (one
    sentence on stderr), 3 partly done, 130 interrupted, 143 terminated.
    """
    from fmrilm.cli.boundary import INTERRUPTED, one_sentence

    words = sys.argv[1:] if arguments is None else arguments
    with one_sentence():
        code = _build_app(words[0] if words else "")(words, standalone_mode=False)
        if isinstance(code, int) and code == INTERRUPTED:  # typer has made it of a Ctrl-C
            raise KeyboardInterrupt
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
    from rich.markup import escape

    function = _load(command.target)
    settings = {"ignore_unknown_options": True} if command.passes_flags else {}
    doc = inspect.getdoc(function) or command.summary
    below = doc.partition("Examples\n--------")[2].strip().splitlines()
    if command.settings:
        below = ["Settings:", *settings_help(_load(command.settings)), "Examples:", *below]
    app.command(
        name,
        help=escape(doc.split("\n\n")[0]),
        epilog="\n\n".join(map(escape, below)) or None,
        context_settings=settings,
    )(_with_options(function, command.also))


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def settings_help(kind: type[Any]) -> list[str]:
    """A line for every ``key=value`` setting of a dataclass: its name, default and meaning."""
    lines = []
    for name, meaning in parameter_help(inspect.getdoc(kind) or "").items():
        default = kind.__dataclass_fields__[name].default
        shown = "" if default in (None, MISSING) else f" ({default})"
        lines.append(f"{name}{shown}: {meaning}")
    return lines


@dataclass(frozen=True)
class Option:
    """A word of the command line: an argument or a --flag, with the type and help it has."""

    parameter: inspect.Parameter
    kind: Any
    help: str

    @property
    def is_flag(self) -> bool:
        """Whether it is given by its name, not by its place."""
        return self.parameter.kind is inspect.Parameter.KEYWORD_ONLY


def options_of(function: Callable[..., Any]) -> list[Option]:
    """The options of a verb: its parameters, and the fields of its ``options`` dataclass.

    A function with many options has ``options: Options | None = None, **changes``, and the
    dataclass documents its fields in numpydoc's ``Parameters``.
    """
    options = []
    hints, helps = get_type_hints(function), parameter_help(inspect.getdoc(function) or "")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        kind = hints[parameter.name]
        fields = next(
            (k for k in (kind, *get_args(kind)) if isinstance(k, type) and is_dataclass(k)), None
        )
        if fields is None:
            options.append(Option(parameter, kind, helps.get(parameter.name, "")))
            continue
        options += [
            Option(option.parameter.replace(kind=parameter.KEYWORD_ONLY), option.kind, option.help)
            for option in options_of(fields)
        ]
    return options


def _with_options(
    function: Callable[..., Any], also: Mapping[str, tuple[str, ...]]
) -> Callable[..., Any]:
    """Wrap ``function`` in a signature of typer options, made from its own and its docstring."""
    import typer
    from rich.markup import escape

    options, parameters = options_of(function), []
    for option in options:
        name, kind, default = option.parameter.name, option.kind, option.parameter.default
        word: Any = typer.Argument(help=escape(option.help))
        if option.is_flag:
            names = [f"--{name}"]
            if "_" in name:
                names.append(f"--{name.replace('_', '-')}")
            if name in ("config", "output"):
                names.append(f"-{name[0]}")
            names += also.get(name, ())
            if kind is bool:
                names[0] += f"/--no-{name}"
            word = typer.Option(*names, help=escape(option.help))
        if type(None) in get_args(kind) and default is None:
            kind = kind if len(get_args(kind)) == 2 else str
        parameters.append(
            option.parameter.replace(
                kind=inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, word]
            )
        )

    def call(**values: Any) -> Any:
        positional = [values.pop(option.parameter.name) for option in options if not option.is_flag]
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
