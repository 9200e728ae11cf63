"""Weights on disk: read exactly, or refused; and a hash that tells two sets of weights apart."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fmrilm.errors import InputError
from fmrilm.readers import reading


def model_folder(
    place: str | Path,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """The folder of a saved model.

    Parameters
    ----------
    place : path or str
        A run folder (its ``model/`` is taken), the folder itself, or a name on the Hugging Face
        hub, whose files are downloaded into its cache.
    revision, token, cache_dir, local_files_only
        Of the hub.

    Raises
    ------
    FileNotFoundError
        If there is neither such a folder nor such a name.
    """
    folder = Path(place)
    for candidate in (folder / "model", folder):
        if (candidate / "config.json").is_file():
            return candidate
    if folder.exists():
        raise FileNotFoundError(
            f"{folder} holds no model: make one with `fmrilm train tokenizer`, `align`, `instruct`"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                str(place), revision=revision, token=token, cache_dir=cache_dir,
                local_files_only=local_files_only,
            )
        )  # fmt: skip
    except HFValidationError:
        raise FileNotFoundError(f"{place} not found: give the folder of a run") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise FileNotFoundError(
            f"{place} is no folder, and not on the Hugging Face hub either "
            f"({str(error).splitlines()[0]})"
        ) from None


def without_auto(given: dict[str, Any]) -> dict[str, Any]:
    """Keywords of ``from_pretrained`` without those that AutoModel adds to a user's."""
    added = ("config", "trust_remote_code", "code_revision", "adapter_kwargs", "_from_auto")
    return {name: value for name, value in given.items() if name not in added}


def upload(
    save: Callable[[Path], object],
    repo_id: str,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload model",
) -> str:
    """Save a model into a temporary folder and upload that to the Hugging Face hub.

    Parameters
    ----------
    save : function
        Writes the model into a folder.
    repo_id : str
        ``user/name``; made if there is none.
    private, token, revision, commit_message
        Of the hub.

    Returns
    -------
    address : str
        Of the commit.
    """
    from huggingface_hub import HfApi

    hub = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        repo_id = hub.create_repo(repo_id, private=private, exist_ok=True).repo_id
        commit = hub.upload_folder(
            repo_id=repo_id, folder_path=folder, revision=revision, commit_message=commit_message
        )
    return commit.commit_url


def dispatch(model: Any, device_map: str | dict[str, Any] | None) -> Any:
    """Spread a model's language model over devices; everything else lies on the first of them.

    Parameters
    ----------
    model : FMRILM
    device_map : str or dict
        ``auto``, or a device for every part of the language model.
    """
    from accelerate import dispatch_model, infer_auto_device_map

    if device_map == "auto":
        whole = getattr(model.lm, "_no_split_modules", None)
        device_map = infer_auto_device_map(model.lm, no_split_module_classes=list(whole or []))
    assert isinstance(device_map, dict)
    first = next(iter(device_map.values()))
    model.to("cpu" if first == "disk" else first)
    model.lm = dispatch_model(model.lm, device_map)
    return model


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name; ``auto``: the CUDA device if there is one, else the CPU.

    Raises
    ------
    InputError
        If there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"device {name!r} cannot be used ({str(error).splitlines()[0]}): give auto, cpu or cuda"
        ) from None
    return device


def has_bfloat16(device: torch.device | None = None) -> bool:
    """Whether a GPU, None the current one, computes in bfloat16 itself: Ampere is the first to."""
    # torch.cuda.is_bf16_supported counts emulation in
    return torch.cuda.get_device_capability(device) >= (8, 0)


def choose_dtype(
    name: str | torch.dtype | None = "auto", device: torch.device | None = None
) -> torch.dtype:
    """The type of a language model's weights; ``auto``: bfloat16 where the device has it.

    Raises
    ------
    InputError
        If the type is unknown.
    """
    if isinstance(name, torch.dtype):
        return name
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name in ("auto", None):
        on_gpu = device is not None and device.type == "cuda"
        return torch.bfloat16 if on_gpu and has_bfloat16(device) else torch.float32
    if name not in known:
        raise InputError(f"dtype is {name!r}: give auto, {', '.join(known)}")
    return known[str(name)]


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Return a hash of names, shapes and values of weights.

    Values count as float32: half precision on disk is read as that, bit for bit the same numbers.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        value = value.float() if value.is_floating_point() else value
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with reading(path, "restore it, or train again"):
            state = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({error}): restore it, or train again") from None
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(
                f"{path}: the weight {name} holds values that are no numbers: restore it, or train "
                "again with a lower train.lr"
            )
    return state


def check_names(path: Path, wanted: Mapping[str, Any], there: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` unless weights of the same names and shapes are wanted and there.

    Parameters
    ----------
    path : Path
        Where they were read from.
    wanted, there : mapping of str to Tensor
    """
    for problem, names in (
        ("lacks", set(wanted) - set(there)),
        ("has, unknown to the model,", set(there) - set(wanted)),
        (
            "has in another shape",
            {n for n in set(wanted) & set(there) if wanted[n].shape != there[n].shape},
        ),
    ):
        if names:
            first = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            raise InputError(
                f"{path} {problem} {len(names)} of the weights ({first}): it is damaged, or of "
                "another version; restore it, or train again"
            )


def load_exactly(module: nn.Module, path: Path, without: tuple[str, ...] = ()) -> None:
    """Read all weights of a module from a safetensors file.

    Parameters
    ----------
    module : nn.Module
    path : Path
    without : tuple of str
        Beginnings of the names of weights that are kept elsewhere.

    Raises
    ------
    InputError
        If a weight is missing, unknown or of another shape.
    """
    state = read_weights(path)
    own = {n: v for n, v in module.state_dict().items() if not n.startswith(without)}
    check_names(path, own, state)
    module.load_state_dict(state, strict=not without)
