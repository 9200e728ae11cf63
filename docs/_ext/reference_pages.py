"""Reference pages made from the code: the command line, the YAML keys, the public Python names.

Each is written as Markdown below ``docs/reference/generated`` when a build starts, so that no
option can be documented that does not exist, nor exist undocumented.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from pathlib import Path
from typing import Any, get_type_hints

from fmrilm import _PUBLIC
from fmrilm.cli import COMMANDS, options_of

_ROUTING = [f"set_{kind}_request" for kind in ("fit", "transform", "predict", "score")]


def setup(app: Any) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_pages(app: Any) -> None:
    """Write the generated pages into the source folder."""
    folder = Path(app.srcdir) / "reference" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"commands": command_page(), "configuration": configuration_page()}
    for name, text in {**pages, **api_pages()}.items():
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def command_page() -> str:
    """Build the page of all verbs: summary, options with their defaults, examples."""
    parts = [
        "# Command line",
        "",
        "Made from the functions themselves; `fmrilm VERB --help` says the same.",
        "",
    ]
    for name, command in COMMANDS.items():
        module, _, attribute = command.target.partition(":")
        function = getattr(importlib.import_module(module), attribute)
        doc = inspect.getdoc(function) or command.summary
        parts += [f"(verb-{name})=", f"## fmrilm {name}", "", _summary(doc), ""]
        parts += _options(function)
        example = doc.partition("Examples\n--------")[2].strip()
        if example:
            parts += ["```bash", example, "```", ""]
    return "\n".join(parts)


def _summary(doc: str) -> str:
    text = doc.partition("\nParameters\n")[0]
    return text.replace("``", "`").strip()


def _options(function: Any) -> list[str]:
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for option in options_of(function):
        parameter = option.parameter
        name = f"`--{parameter.name}`" if option.is_flag else f"`{parameter.name.upper()}`"
        default = parameter.default
        shown = "" if default is inspect.Parameter.empty or default is None else f"`{default}`"
        meaning = option.help.replace("|", "\\|").replace("``", "`")
        rows.append(f"| {name} | {shown} | {meaning} |")
    return [*rows, ""] if len(rows) > 2 else []


def configuration_page() -> str:
    """Build the page of all YAML keys from the dataclasses of :mod:`fmrilm.config.schema`."""
    from fmrilm.config import schema as config

    comments = _comments(Path(config.__file__ or ""))
    parts = [
        "# Configuration keys",
        "",
        "Every key can stand in a YAML file or be given as `section.key=value`.",
        "",
    ]
    parts += _sections(config.Config, "", comments)
    return "\n".join(parts)


def _sections(kind: type, prefix: str, comments: dict[tuple[str, str], str]) -> list[str]:
    hints = get_type_hints(kind)
    plain = [f for f in dataclasses.fields(kind) if not dataclasses.is_dataclass(hints[f.name])]
    nested = [f for f in dataclasses.fields(kind) if dataclasses.is_dataclass(hints[f.name])]
    parts: list[str] = []
    if plain and prefix:
        parts += [f"## {prefix}", "", (inspect.getdoc(kind) or "").replace("``", "`"), ""]
        parts += ["| key | default | meaning |", "|---|---|---|"]
        for f in plain:
            default = f.default_factory() if callable(f.default_factory) else f.default
            meaning = comments.get((kind.__name__, f.name), "").replace("|", "\\|")
            parts.append(f"| `{prefix}.{f.name}` | `{default}` | {meaning} |")
        parts.append("")
    for f in nested:
        name = f"{prefix}.{f.name}" if prefix else f.name
        parts += _sections(hints[f.name], name, comments)
    return parts


def _comments(path: Path) -> dict[tuple[str, str], str]:
    """Read the comment behind every field, by class and field name."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    comments = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    line = lines[(item.end_lineno or item.lineno) - 1]
                    _, hash_, comment = line.partition("  # ")
                    comments[node.name, item.target.id] = comment if hash_ else ""
    return comments


def api_pages() -> dict[str, str]:
    """Build one page per public name, and their index."""
    index = [
        "# Python",
        "",
        "Everything that guides and notebooks need; imported when first used.",
        "",
    ]
    index += ["| name | what it is |", "|---|---|"]
    pages, names = {}, []
    for name, module in sorted(_PUBLIC.items(), key=lambda item: item[0].lower()):
        module, _, own = module.partition(":")
        own = own or name
        target = getattr(importlib.import_module(module), own)
        if not callable(target):
            continue
        summary = (inspect.getdoc(target) or "").split("\n\n")[0].replace("\n", " ")
        index.append(f"| [{name}](api-{name}.md) | {summary.replace('``', '`')} |")
        kind = "autoclass" if inspect.isclass(target) else "autofunction"
        members = "\n:members:\n:show-inheritance:" if inspect.isclass(target) else ""
        if module == "fmrilm.sklearn":  # scikit-learn's metadata routing is documented there
            members += "\n:exclude-members: " + ", ".join(_ROUTING)
        body = f"```{{eval-rst}}\n.. {kind}:: {module}.{own}" + members.replace("\n:", "\n   :")
        pages[f"api-{name}"] = f"# {name}\n\n`from fmrilm import {name}`\n\n{body}\n```\n"
        names.append(f"api-{name}")
    index += ["", "```{toctree}", ":hidden:", "", *names, "```", ""]
    return {"api": "\n".join(index), **pages}
