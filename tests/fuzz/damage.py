"""Ways to damage a file. Each returns what is expected of a command that reads it then.

``REFUSE``: exit 2 with a sentence, or a finding of doctor or audit. ``SAY``: the same, or the
command goes on and says so. ``ANY``: it may also be fine, but there is no traceback.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

REFUSE, SAY, ANY = "refuse", "say", "any"
Rng = np.random.Generator
Damage = Callable[[Path, Rng, Path], str]  # file, random numbers, canary -> what is expected


def pick(rng: Rng, values: Any) -> Any:
    """Return one of some values, as it is."""
    values = list(values)
    return values[int(rng.integers(len(values)))]


class Payload:
    """What runs a command when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.canary}'",)


# Any file ----------------------------------------------------------------------------------------


def empty(path: Path, rng: Rng, canary: Path) -> str:
    path.write_bytes(b"")
    return REFUSE


def junk(path: Path, rng: Rng, canary: Path) -> str:
    path.write_bytes(rng.bytes(int(rng.integers(1, 3000))))
    return REFUSE


def zeros(path: Path, rng: Rng, canary: Path) -> str:
    path.write_bytes(b"\0" * int(rng.integers(1, 3000)))
    return REFUSE


def gone(path: Path, rng: Rng, canary: Path) -> str:
    path.unlink()
    return ANY


def folder(path: Path, rng: Rng, canary: Path) -> str:
    path.unlink()
    path.mkdir()
    return ANY  # a file that need not be there is not


def full_folder(path: Path, rng: Rng, canary: Path) -> str:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("x")
    return ANY


def loop(path: Path, rng: Rng, canary: Path) -> str:
    path.unlink()
    path.symlink_to(path.name)
    return ANY


def dangling(path: Path, rng: Rng, canary: Path) -> str:
    path.unlink()
    path.symlink_to("nowhere/at/all")
    return ANY


def device(path: Path, rng: Rng, canary: Path) -> str:
    path.unlink()
    path.symlink_to(pick(rng, ["/dev/null", "/dev/full"]))
    return ANY


def truncated(path: Path, rng: Rng, canary: Path) -> str:
    data = path.read_bytes()
    path.write_bytes(data[: int(rng.integers(0, max(1, len(data) - 1)))])
    return ANY


def flipped(path: Path, rng: Rng, canary: Path) -> str:
    data = bytearray(path.read_bytes())
    for _ in range(int(rng.integers(1, 9))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    return ANY


def spliced(path: Path, rng: Rng, canary: Path) -> str:
    data = path.read_bytes()
    start, stop = sorted(int(i) for i in rng.integers(0, len(data) + 1, 2))
    kind = rng.integers(3)
    middle = [b"", data[start:stop] * 2, rng.bytes(stop - start)][kind]
    path.write_bytes(data[:start] + middle + data[stop:])
    return ANY


def trailing(path: Path, rng: Rng, canary: Path) -> str:
    path.write_bytes(path.read_bytes() + rng.bytes(int(rng.integers(1, 300))))
    return ANY


def pickled(path: Path, rng: Rng, canary: Path) -> str:
    path.write_bytes(pickle.dumps(Payload(canary), protocol=int(rng.integers(0, 6))))
    return ANY


BYTES = [empty, junk, zeros, gone, folder, full_folder, loop, dangling, device, truncated, flipped,
         spliced, trailing, pickled]  # fmt: skip


# Text --------------------------------------------------------------------------------------------


def encoded(path: Path, rng: Rng, canary: Path) -> str:
    text = path.read_text(encoding="utf-8")
    name = pick(rng, ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp1252", "latin-1", "utf-7"])
    path.write_bytes((text + pick(rng, ["", "é", "Ünï"])).encode(name))
    return ANY


def not_utf8(path: Path, rng: Rng, canary: Path) -> str:
    data = path.read_bytes()
    at = int(rng.integers(len(data) + 1))
    path.write_bytes(
        data[:at] + pick(rng, [b"\xff\xfe\xfa", b"\xc3\x28", b"\xed\xa0\x80"]) + data[at:]
    )
    return ANY


def with_nul(path: Path, rng: Rng, canary: Path) -> str:
    data = path.read_bytes()
    at = int(rng.integers(len(data) + 1))
    path.write_bytes(data[:at] + b"\0" * int(rng.integers(1, 9)) + data[at:])
    return ANY


def long_line(path: Path, rng: Rng, canary: Path) -> str:
    with path.open("ab") as handle:
        handle.write(pick(rng, [b"x", b"[", b"{", b"(", b"- ", b'"', b"1"]) * 200_000)
    return ANY


def line_ends(path: Path, rng: Rng, canary: Path) -> str:
    data = path.read_bytes().replace(b"\r\n", b"\n")
    path.write_bytes(data.replace(b"\n", pick(rng, [b"\r\n", b"\r", b"\n\n", b"", b"\x0b"])))
    return ANY


TEXT = [encoded, not_utf8, with_nul, long_line, line_ends]


# JSON, NPZ, pickles ------------------------------------------------------------------------------

ODD = [None, True, False, 0, -1, 1.5, 10**30, float("nan"), float("inf"), "", "x", "../../../x",
       "/etc/passwd", "\ud800", "a\nb", "${oc.env:HOME}", [], [None], ["x"], [[]], {}, {"x": {}},
       {"": None}, "x" * 10_000]  # fmt: skip


def places(value: Any, above: tuple = ()) -> list[tuple]:
    """Return the path of every value in a tree of dicts and lists."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else []
    )
    return [
        *([above] if above else []),
        *(p for key, item in inner for p in places(item, (*above, key))),
    ]


def change_tree(tree: Any, rng: Rng) -> Any:
    """Return a tree of dicts and lists with one value replaced, renamed or left out."""
    where = places(tree)
    if not where or rng.random() < 0.08:
        return pick(rng, ODD)
    # values near the top decide more than the many below
    depth = int(rng.integers(1, max(map(len, where)) + 1))
    chosen = pick(rng, [p for p in where if len(p) == depth] or where)
    parent = tree
    for key in chosen[:-1]:
        parent = parent[key]
    kind = rng.integers(4)
    if kind == 0:
        del parent[chosen[-1]]
    elif kind == 1 and isinstance(parent, dict):
        parent[f"{chosen[-1]}_"] = parent.pop(chosen[-1])
    else:
        parent[chosen[-1]] = pick(rng, ODD)
    return tree


def json_value(path: Path, rng: Rng, canary: Path) -> str:
    tree = change_tree(json.loads(path.read_text(encoding="utf-8")), rng)
    path.write_text(json.dumps(tree), encoding="utf-8", errors="surrogatepass")
    return ANY


def json_whole(path: Path, rng: Rng, canary: Path) -> str:
    path.write_text(
        pick(
            rng,
            [
                "null",
                "[]",
                "{}",
                "1",
                '"x"',
                "NaN",
                "{",
                "[" * 100_000,
                "9" * 6000,
                "// x",
                "{'a': 1}",
            ],
        )
    )
    return ANY


JSON = [json_value, json_value, json_value, json_whole]


def jsonl_value(path: Path, rng: Rng, canary: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    at = int(rng.integers(len(lines)))
    lines[at] = pick(
        rng, [json.dumps(change_tree(json.loads(lines[at]), rng)), "null", "{", "[]", "x", "1"]
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogatepass")
    return ANY


JSONL = [jsonl_value, jsonl_value, jsonl_value, json_whole]


def npz_value(path: Path, rng: Rng, canary: Path) -> str:
    with np.load(path, allow_pickle=False) as content:
        arrays = dict(content)
    name = pick(rng, arrays)
    value = arrays[name]
    arrays[name] = pick(
        rng,
        [value[..., None], value.ravel()[:0], np.array("x"), np.array(["x", "y"]), np.array(np.nan),
         value.astype(str), np.full(3, 1 + 2j), np.zeros((2, 2, 2)), np.array(-1), np.array(np.inf)],
    )  # fmt: skip
    np.savez(path, **arrays)
    return ANY


def npz_key(path: Path, rng: Rng, canary: Path) -> str:
    with np.load(path, allow_pickle=False) as content:
        arrays = dict(content)
    name = pick(rng, arrays)
    value = arrays.pop(name)
    if rng.random() < 0.5:
        arrays["other"] = value
    np.savez(path, **arrays)
    return ANY


def npz_object(path: Path, rng: Rng, canary: Path) -> str:
    with np.load(path, allow_pickle=False) as content:
        arrays = dict(content)
    name = pick(rng, arrays)
    arrays[name] = np.array([Payload(canary)], dtype=object)
    np.savez(path, **arrays)
    return ANY


NPZ = [npz_value, npz_value, npz_key, npz_object]


def gzip_bomb(path: Path, rng: Rng, canary: Path) -> str:
    head = path.read_bytes()
    head = gzip.decompress(head) if head[:2] == b"\x1f\x8b" else head
    packer = zlib.compressobj(9, wbits=31)
    with path.open("wb") as handle:
        handle.write(packer.compress(head[: int(rng.integers(0, 400))]))
        for _ in range(300):
            handle.write(packer.compress(b"\0" * 2**20))
        handle.write(packer.flush())
    return ANY
