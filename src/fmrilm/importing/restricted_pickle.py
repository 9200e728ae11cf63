"""Reading a checkpoint of torch without letting it run anything.

A pickle can name any function and have it called. Here the names are listed before anything is
read; what is not a tensor, a plain container or a number is refused by its name. Containers of
OmegaConf, ``argparse`` and numpy become inert stand-ins and then plain Python. The reading itself
is torch's own restricted one (``weights_only``), which keeps a second list, and the tensors stay
in the file until they are used (memory mapping).
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fmrilm.errors import InputError
from fmrilm.readers import reading


class _Config:
    """Stand-in for any class that pickles as its attributes."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        for part in parts:
            self.__dict__.update(part or {})


class _Path(_Config):
    """Stand-in for a path: its parts."""


class _Anything(_Config):
    """Stand-in for a type that is only mentioned."""


class _DType:
    """Stand-in for numpy's dtype, which is set up in two steps."""

    def __init__(self, code: str, *arguments: Any) -> None:
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        self.code = self.code if order == "|" else f"{order}{self.code}"

    def read(self, data: bytes) -> np.ndarray:
        dtype = np.dtype(self.code)
        if dtype.hasobject:
            raise InputError("refused: the file holds numpy arrays of Python objects")
        return np.frombuffer(data, dtype)


class _Array:
    """Stand-in for numpy's array."""

    def __init__(self, *arguments: Any) -> None:
        self.values: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        values = dtype.read(data).reshape(shape, order="F" if is_fortran else "C")
        self.values = values.tolist()


def _array(*arguments: Any) -> _Array:
    return _Array()


def _scalar(dtype: _DType, data: bytes) -> Any:
    return dtype.read(data)[0].item()


def _dictionary(*arguments: Any) -> dict[Any, Any]:
    return {}


# What a file may ask for besides torch's own tensors, and what it gets.
STAND_INS: dict[str, Any] = {
    "builtins.dict": dict,
    "builtins.list": list,
    "builtins.tuple": tuple,
    "builtins.int": int,
    "builtins.float": float,
    "builtins.str": str,
    "builtins.bool": bool,
    "builtins.set": set,
    "collections.defaultdict": _dictionary,
    "argparse.Namespace": _Config,
    "types.SimpleNamespace": _Config,
    "typing.Any": _Anything,
    "pathlib.PosixPath": _Path,
    "pathlib.WindowsPath": _Path,
    "pathlib._local.PosixPath": _Path,
    "pathlib._local.WindowsPath": _Path,
    "numpy.dtype": _DType,
    "numpy.ndarray": _Array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.core.multiarray._reconstruct": _array,
    "numpy._core.multiarray._reconstruct": _array,
    "omegaconf.base.ContainerMetadata": _Config,
    "omegaconf.base.Metadata": _Config,
    "omegaconf.dictconfig.DictConfig": _Config,
    "omegaconf.listconfig.ListConfig": _Config,
    "omegaconf.nodes.AnyNode": _Config,
    "omegaconf.nodes.StringNode": _Config,
    "omegaconf.nodes.IntegerNode": _Config,
    "omegaconf.nodes.FloatNode": _Config,
    "omegaconf.nodes.BooleanNode": _Config,
    "omegaconf.nodes.InterpolationResultNode": _Config,
}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint of torch, tensors still in the file.

    Parameters
    ----------
    path : Path
        Written by ``torch.save`` in its zip format.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If it is no such checkpoint, or asks for anything that is not data.
    """
    import torch

    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: give the .pt file of a released checkpoint")
    refused = sorted(name for name in asked_for(path) if not _is_allowed(name))
    if refused:
        raise InputError(
            f"refused: {path.name} asks for {', '.join(refused)}, which is no data; nothing of the "
            "file was run: it is no checkpoint to trust"
        )
    # A stand-in is the same object under several names, which torch allows.
    stand_ins: list[Any] = [(stand_in, name) for name, stand_in in STAND_INS.items()]
    try:
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        content = to_plain(content)
    except InputError:
        raise
    except Exception as error:  # a damaged or hostile file fails in many ways, all before use
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"refused: {path.name} cannot be read as plain data ({reason})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path.name} holds a {type(content).__name__}, no checkpoint's dict")
    return {str(key): value for key, value in content.items()}


def _is_allowed(name: str) -> bool:
    from torch._weights_only_unpickler import _get_allowed_globals

    return name in STAND_INS or name in _get_allowed_globals()


def asked_for(path: Path) -> set[str]:
    """Return the names of all functions and classes that a checkpoint asks for, without reading it.

    Raises
    ------
    InputError
        If it is no checkpoint in torch's zip format.
    """
    if not zipfile.is_zipfile(path):
        raise InputError(
            f"{path.name} is not in torch's zip format (of torch 1.6 and later): load it where it "
            "comes from and save it again with torch.save, or convert it to that format"
        )
    with reading(path, "get it again"), zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise InputError(f"{path.name} holds {len(pickles)} data.pkl: it is no checkpoint")
        if any(name.split("/")[-1] == "constants.pkl" for name in archive.namelist()):
            raise InputError(f"refused: {path.name} is a TorchScript program, no checkpoint")
        data = archive.read(pickles[0])
    try:
        return names_in(data)
    except (ValueError, IndexError, KeyError) as error:
        raise InputError(f"refused: {path.name} holds a damaged pickle ({error})") from None


def names_in(data: bytes) -> set[str]:
    """Return the full names of the functions and classes in a pickle."""
    names: set[str] = set()
    strings: list[str] = []  # in the order they are pushed: STACK_GLOBAL takes the last two
    memo: dict[int, str] = {}
    for operation, argument, _ in pickletools.genops(data):
        kind = operation.name
        if kind in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            names.add(_current_name(module, name))
        elif kind == "STACK_GLOBAL":
            known = len(strings) >= 2
            names.add(_current_name(*strings[-2:]) if known else "a name it makes up")
        elif kind.startswith("EXT"):
            names.add(f"registered extension {argument}")
        elif isinstance(argument, str):
            strings.append(argument)
        elif kind == "MEMOIZE" and strings:
            memo[len(memo)] = strings[-1]
        elif kind in ("BINPUT", "LONG_BINPUT", "PUT") and strings:
            memo[int(argument or 0)] = strings[-1]
        elif kind in ("BINGET", "LONG_BINGET", "GET") and argument in memo:
            strings.append(memo[argument])
    return names


def _current_name(module: str, name: str) -> str:
    """Return what Python 2's names, which torch's files use, are called today."""
    from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


def to_plain(value: Any) -> Any:
    """Return a value with every stand-in turned into dicts, lists and numbers."""
    if isinstance(value, _Path):
        return str(PurePosixPath(*(str(part) for part in value._arguments)))
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, _DType):
        return value.code
    if isinstance(value, _Config):
        state = {k: v for k, v in value.__dict__.items() if k not in ("_arguments", "_parent")}
        if "_content" in state:
            return to_plain(state["_content"])
        if "_val" in state:
            return to_plain(state["_val"])
        return {name: to_plain(one) for name, one in state.items()}
    if isinstance(value, dict):
        return {key: to_plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [to_plain(one) for one in value]
    return value
