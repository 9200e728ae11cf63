"""Reading torch's distributed checkpoints without letting them run anything.

Their ``.metadata`` is a pickle, and so is every value in them that is no tensor; torch unpickles
both without a restriction. Here only the names that such a checkpoint is made of are known, values
go through torch's own restricted reader (``weights_only``), and no file outside the folder is read.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem

from fmrilm.errors import InputError

_OF_CHECKPOINTS = "torch.distributed.checkpoint.metadata"
_DTYPES = {name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)}
_NAMES = {
    _OF_CHECKPOINTS: {
        "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta",
        "TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo", "_StoragePrefix"},
    "torch": {"Size", "device", *_DTYPES},
    "torch.serialization": {"_get_layout"},
    "collections": {"OrderedDict"},
    "pathlib": {"PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
    "pathlib._local": {"PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
}  # fmt: skip


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in _NAMES.get(module, ()):
            raise InputError(
                f"refused: the checkpoint asks for {module}.{name}, which is no data; nothing "
                "of it was run: it is no checkpoint to trust"
            )
        return super().find_class(module, name)


class CheckpointReader(FileSystemReader):
    """Reads the files of a checkpoint folder, and nothing else.

    Parameters
    ----------
    path : Path
    """

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return what is in the checkpoint and where."""
        path = Path(self._get_metadata_path(kwargs.get("rank")))
        if kwargs.get("rank") is not None and not path.is_file():
            raise FileNotFoundError(path)  # torch then looks for the one of all processes
        with path.open("rb") as handle:
            metadata = _Unpickler(handle).load()
        if not isinstance(metadata, Metadata) or not isinstance(metadata.storage_data, dict):
            raise InputError(f"{path} is not that of a checkpoint")
        for info in metadata.storage_data.values():
            name = info.relative_path
            if Path(name).name != name:
                raise InputError(f"refused: {path} names the file {name!r} outside its folder")
        if getattr(metadata, "storage_meta", None) is None:
            metadata.storage_meta = StorageMeta()
        assert metadata.storage_meta is not None
        metadata.storage_meta.load_id = self.load_id
        return metadata


class CheckpointPlanner(DefaultLoadPlanner):
    """Takes values that are no tensors through the restricted reader.

    What no loss has reached so far has no optimizer state in the file, which is allowed.
    """

    def __init__(self) -> None:
        super().__init__(allow_partial_load=True)

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Put one value where it belongs."""
        content = torch.load(value, weights_only=True)
        super().load_bytes(read_item, _resaved(content))


def _resaved(content: Any) -> io.BytesIO:
    """Return a value as torch saves it, for a reader that has no restriction."""
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    return file
