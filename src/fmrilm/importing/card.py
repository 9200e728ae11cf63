"""The card beside imported weights: where they come from, and what could not be known."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fmrilm.importing.layouts import Known

CARD = "import.json"


@dataclass
class Card:
    """What an import knows of a checkpoint."""

    source: str  # file name
    sha256: str
    bytes: int
    layout: str  # A | B | MAE
    stage: str  # tokenizer | align | instruct
    facts: dict[str, Known] = field(default_factory=dict)
    not_known: list[str] = field(default_factory=list)
    not_used: list[str] = field(default_factory=list)
    stated: dict[str, Any] = field(default_factory=dict)  # by the checkpoint, not checked

    def write(self, folder: Path) -> None:
        """Write the card as JSON and for people."""
        content = json.dumps(asdict(self), indent=2, default=str)
        (folder / CARD).write_text(content + "\n", encoding="utf-8")
        (folder / "README.md").write_text(self.to_markdown(), encoding="utf-8")

    def to_markdown(self) -> str:
        """Return the card as a page."""
        facts = [f"| {name} | {fact.value} | {fact.source} |" for name, fact in self.facts.items()]
        stated = [f"- {name}: {value}" for name, value in self.stated.items()]
        return "\n".join(
            [
                f"# Imported from {self.source}",
                "",
                f"A checkpoint of the original fMRI-LM (stage {self.stage}, layout {self.layout}), "
                "read by `fmrilm import`.",
                "",
                f"sha256 `{self.sha256}`, {self.bytes:,} bytes",
                "",
                "## Known",
                "",
                "| fact | value | known from |",
                "|---|---|---|",
                *facts,
                "",
                "## Not known",
                "",
                *[f"- {one}" for one in self.not_known],
                "",
                "## In the file and not used",
                "",
                *([f"- {one}" for one in self.not_used] or ["- nothing"]),
                "",
                "## Stated by the file, not checked",
                "",
                *(stated or ["- nothing"]),
                "",
            ]
        )


def hash_file(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
