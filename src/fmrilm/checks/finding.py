"""What a check found: one sentence, how bad it is, and what to do."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field

LEVELS = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One finding of ``fmrilm doctor`` or ``fmrilm audit``."""

    code: str  # stable name, for scripts
    level: str  # error | warning | note
    message: str
    fix: str
    where: list[str] = field(default_factory=list)  # samples, subjects, columns or regions


def show(findings: list[Finding], title: str, as_json: bool) -> int:
    """Print the findings as a table or JSON; return 1 if one is an error or a warning, else 0.

    Parameters
    ----------
    findings : list of Finding
    title : str
        What was checked.
    as_json : bool
        JSON on stdout instead of a table.
    """
    ordered = sorted(findings, key=lambda finding: LEVELS.index(finding.level))
    failed = any(finding.level != "note" for finding in findings)
    if as_json:
        content = {"checked": title, "failed": failed, "findings": [asdict(f) for f in ordered]}
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return int(failed)
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not ordered:
        console.print(f"{title}: nothing found", style="green", highlight=False, soft_wrap=True)
        return 0
    table = Table(title=title, title_justify="left", show_lines=True)
    for column in ("level", "finding", "fix"):
        table.add_column(column, overflow="fold")
    colours = {"error": "red", "warning": "yellow", "note": "cyan"}
    for finding in ordered:
        places = ", ".join(finding.where[:3]) + (", ..." if len(finding.where) > 3 else "")
        message = f"{finding.message}\n[dim]{places}[/dim]" if places else finding.message
        level = f"[{colours[finding.level]}]{finding.level}[/]"
        table.add_row(level, f"{message} [dim]({finding.code})[/dim]", finding.fix)
    console.print(table)
    return int(failed)
