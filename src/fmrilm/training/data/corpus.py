"""Running text for the text-only loss: one memory-mapped file of token ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fmrilm.errors import InputError
from fmrilm.readers import check_types, read_file, read_json, reading

WORDNET = Path("/usr/share/wordnet")  # of the Debian package wordnet-base


def corpus(action: str, sources: list[str] | None = None, *, output: Path, lm: str) -> Path:
    """Build the token file that ``align.text_corpus`` names, from any text files.

    Parameters
    ----------
    action : str
        build
    sources : list of str
        Text files, or folders of .txt files; none: the glosses of WordNet, if it is installed.
    output : Path
        The file to write, e.g. corpus.bin; its description goes beside it, corpus.json.
    lm : str
        Language model whose text tokenizer is used: a name, a folder, or smollm2.

    Examples
    --------
    fmrilm corpus build --lm smollm2 -o corpus.bin
    fmrilm corpus build notes.txt books/ --lm runs/tok/model/lm -o corpus.bin
    """
    from fmrilm.lm.language_models import load_any_text_tokenizer

    if action != "build":
        raise InputError(f"unknown action {action!r}: the only one is build")
    if output.is_dir():
        raise InputError(f"{output} is a folder: give the name of a file to write")
    text_tokenizer = load_any_text_tokenizer(lm)
    texts = read_texts([Path(source) for source in sources]) if sources else wordnet_glosses()
    count = write_corpus(texts, text_tokenizer, output)
    print(f"{output}: {count} tokens")
    return output


def read_texts(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the paragraphs of text files, and of the .txt files in folders."""
    for path in paths:
        files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
        if not files or not files[0].is_file():
            raise FileNotFoundError(f"{path} not found, or a folder without .txt files")
        for file in files:
            text = read_file(file, "save it as UTF-8 text")
            yield from (part.strip() for part in text.split("\n\n") if part.strip())


def wordnet_glosses(folder: Path = WORDNET) -> Iterator[str]:
    """Yield every entry of WordNet as a sentence: its words and what they mean."""
    files = sorted(folder.glob("data.*"))
    if not files:
        raise FileNotFoundError(
            f"no WordNet in {folder}: name text files, or run `apt-get install wordnet-base`"
        )
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):  # the licence
                continue
            entry, _, gloss = line.partition(" | ")
            fields = entry.split()
            words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            yield f"{', '.join(words).replace('_', ' ')}: {gloss.strip()}"


def write_corpus(texts: Iterable[str], text_tokenizer: Any, output: Path) -> int:
    """Write texts as token ids, an end-of-text token after each; return how many there are.

    The integers are as wide as the vocabulary needs: 2 bytes up to 65,536 tokens, else 4.
    """
    size = len(text_tokenizer)
    dtype = np.dtype(np.uint16 if size <= 2**16 else np.uint32)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_suffix(".partial")
    count = 0
    with partial.open("wb") as handle:
        for some in _groups(texts, 1000):
            for ids in text_tokenizer(some, add_special_tokens=False)["input_ids"]:
                row = np.array([*ids, text_tokenizer.eos_token_id], dtype=dtype)
                handle.write(row.tobytes())
                count += len(row)
    if not count:
        partial.unlink()
        raise InputError("the sources hold no text")
    card = {
        "dtype": dtype.name,
        "tokens": count,
        "vocabulary": size,
        "text_tokenizer": fingerprint(text_tokenizer),
    }
    _card(output).write_text(json.dumps(card, indent=2), encoding="utf-8")
    partial.replace(output)
    return count


class Corpus:
    """Random stretches of a token file.

    Parameters
    ----------
    path : Path
        What ``fmrilm corpus build`` wrote.
    text_tokenizer : PreTrainedTokenizerBase
        Of the language model that will read it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If it was made with another text tokenizer.
    """

    def __init__(self, path: Path, text_tokenizer: Any) -> None:
        again = f"run `fmrilm corpus build -o {path}` again"
        if not path.is_file() or not _card(path).is_file():
            raise FileNotFoundError(f"{path} not found: run `fmrilm corpus build -o {path}` first")
        card = read_json(_card(path), again)
        kinds = {"text_tokenizer": str, "dtype": str, "tokens": int, "vocabulary": int}
        check_types(card, kinds, _card(path), again)
        if card["text_tokenizer"] != fingerprint(text_tokenizer):
            raise InputError(
                f"{path} was made with another text tokenizer than the language model's: run "
                "`fmrilm corpus build` again with its --lm"
            )
        with reading(path, again):
            self.ids = np.memmap(path, dtype=card["dtype"], mode="r")
            if len(self.ids) != card["tokens"] or int(self.ids.max()) >= card["vocabulary"]:
                raise InputError(f"{path} is not what its {_card(path).name} describes: {again}")

    def draw(self, rows: int, length: int) -> Tensor:
        """Return random stretches of text, token ids (rows, length) or shorter."""
        length = min(length, len(self.ids))
        starts = torch.randint(len(self.ids) - length + 1, (rows,)).tolist()
        parts = [self.ids[start : start + length].astype(np.int64) for start in starts]
        return torch.from_numpy(np.stack(parts))


def fingerprint(text_tokenizer: Any) -> str:
    """Return 16 characters that differ where two text tokenizers have other words."""
    words = json.dumps(sorted(text_tokenizer.get_vocab().items()), ensure_ascii=True)
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def _card(path: Path) -> Path:
    return path.with_suffix(".json")


def _groups(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    group: list[str] = []
    for text in texts:
        group.append(text)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
