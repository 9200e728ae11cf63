"""Reword the texts of a cohort with a language model, resumable; facts are checked one by one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fmrilm.descriptors import Descriptor
from fmrilm.descriptors.text.rewrite import EndpointRewriter, LocalRewriter, rewrite
from fmrilm.errors import InputError
from fmrilm.progress import track
from fmrilm.readers import read_json_lines, reading


def reword_texts(
    texts: list[str], rows: list[dict[str, Any]], family: Descriptor, name: str, parts: Path
) -> list[str]:
    """Return the texts reworded where every fact survives; what is done is kept in a file."""
    from rich.console import Console

    done_path = parts / "rewrites.jsonl"
    done: dict[str, str] = {}
    if done_path.is_file():
        with reading(done_path, "delete it, it is made again"):
            lines = read_json_lines(done_path)
            done = {item["text"]: item["reworded"] for item in lines}
    model = None
    accepted = 0
    with done_path.open("a", encoding="utf-8") as handle:
        pairs = zip(texts, rows, strict=True)
        for text, row in track(pairs, f"rewording {family.family}", len(texts)):
            if text not in done:
                model = model or make_rewriter(name)
                done[text] = rewrite(text, row, model, family.place_names()).text
                handle.write(json.dumps({"text": text, "reworded": done[text]}) + "\n")
                handle.flush()
            accepted += done[text] != text
    Console().print(f"{family.family}: {accepted} of {len(texts)} rewordings kept every fact")
    return [done[text] for text in texts]


def make_rewriter(name: str) -> Callable[[str], str]:
    """Return the rewriter of a name: a Hugging Face model or folder, or URL#MODEL.

    Raises
    ------
    InputError
        If an address names no model.
    """
    if name.startswith(("http://", "https://")):
        url, _, model = name.partition("#")
        if not model:
            raise InputError(f"--rewriter {name}: write the model's name behind a #")
        return EndpointRewriter(url, model, os.environ.get("FMRILM_REWRITER_KEY", ""))
    return LocalRewriter(name)
