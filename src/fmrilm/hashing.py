"""Hashes of what series, files and code hold."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from fmrilm.files import CARD


def checksum(series: np.ndarray) -> str:
    """Return 32 hexadecimal digits that tell one series from another: shape and float32 values."""
    values = np.ascontiguousarray(series, dtype=np.float32)
    digest = hashlib.sha256(repr(values.shape).encode())
    digest.update(values.data)
    return digest.hexdigest()[:32]


def state_of(path: Path) -> tuple[int, ...]:
    """Return what changes with every write to a file, and may change without one (a copy)."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def digest(*parts: str) -> str:
    """Return 16 hexadecimal digits for some words in their order."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def hash_files(folder: Path) -> str:
    """A hash of the content of all files below a folder, and of their names in it.

    The model card is left out: an evaluation writes its scores into it.
    """
    about = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CARD):
        about.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as handle:
            about.update(hashlib.file_digest(handle, "sha256").digest())
    return about.hexdigest()[:16]


def code_version() -> str:
    """Return the version of the package and a hash of its modules, whatever they lie in."""
    import fmrilm

    about, root = hashlib.sha256(), Path(fmrilm.__file__).parent
    for file in sorted(root.rglob("*.py")):
        about.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return f"{fmrilm.__version__}+{about.hexdigest()[:12]}"


def hash_code(*packages: str) -> str:
    """Return a hash of the modules of some packages: what older code made is not taken."""
    from importlib.resources import files

    about = hashlib.sha256()
    for package in packages:
        for file in sorted(Path(str(files(package))).rglob("*.py")):
            about.update(file.read_bytes())
    return about.hexdigest()[:12]
