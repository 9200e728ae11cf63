"""Saved models: written, read exactly or refused, uploaded; as transformers names these things."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Self

import torch

from fmrilm.config.schema import EVIDENCE_SLOTS, read_model_config
from fmrilm.errors import InputError
from fmrilm.files import COMPANIONS, check_seal, files_in, write_seal
from fmrilm.lm.language_models import (
    RETRAIN,
    BaseModel,
    reload_language_model,
    save_language_model,
)
from fmrilm.lm.reader import FMRIReader
from fmrilm.readers import read_json, reading
from fmrilm.tokenizer.tokenizer import FMRITokenizer
from fmrilm.weights import (
    choose_device,
    choose_dtype,
    dispatch,
    load_exactly,
    model_folder,
    upload,
    without_auto,
)


class SavedModel(FMRIReader):
    """A model that is saved, loaded and uploaded.

    Attributes
    ----------
    base : BaseModel or None
        What the language model was before any training here.
    source : Path or None
        The folder it was loaded from.
    """

    base: BaseModel | None = None
    source: Path | None = None

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:  # type: ignore[override]
        """Write config, language model, and everything around it (safetensors and JSON).

        The processor and the model card that lay beside a loaded model go with it.
        """
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.source is not None and self.source.resolve() != folder.resolve():
            for name in COMPANIONS:
                if (self.source / name).is_file():
                    shutil.copyfile(self.source / name, folder / name)
        self.tokenizer.save_pretrained(folder / "tokenizer")
        save_language_model(self.lm, self.text.text_tokenizer, folder / "lm", self.base)
        state = {
            name: value.contiguous()
            for name, value in self.state_dict().items()
            if not name.startswith(("lm.", "tokenizer."))
        }
        save_file(state, folder / "bridge.safetensors")
        config = self.config.to_diff_dict() | {"architectures": [type(self).__name__]}
        (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        # the weights of the language model have a hash of their own in its weights.json
        unsealed = ("lm/model.safetensors", *COMPANIONS)
        write_seal(folder, [name for name in files_in(folder) if name not in unsealed])

    def push_to_hub(self, repo_id: str, **hub: Any) -> str:  # type: ignore[override]
        """Upload the model, its processor and its card to the Hugging Face hub.

        Parameters
        ----------
        repo_id : str
        **hub
            As for :func:`fmrilm.weights.upload`.

        Returns
        -------
        address : str
            Of the commit.
        """
        return upload(self.save_pretrained, repo_id, **hub)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        place: str | Path,
        *,
        device: str = "cpu",
        dtype: str | torch.dtype | None = "float32",
        device_map: str | dict[str, Any] | None = None,
        **hub: Any,
    ) -> Self:
        """Read what :meth:`save_pretrained` wrote, adapters included; in evaluation mode.

        Parameters
        ----------
        place : path or str
            A run folder, its ``model/`` folder, or a name on the Hugging Face hub.
        device : str
            ``auto``, ``cpu``, ``cuda``, ...
        dtype : str
            Of the language model's weights: ``auto``, ``float32``, ``bfloat16`` or ``float16``. The
            tokenizer stays float32: nearest codes and correlations are not to be rounded.
        device_map : str or dict, optional
            In place of ``device``: a device, ``auto`` (the language model spread over the GPUs by
            accelerate, all else on the first), or a map of the language model's parts.
        **hub
            ``revision``, ``token``, ``cache_dir`` and ``local_files_only``, for a hub name.

        Raises
        ------
        FileNotFoundError
            If the folder holds no model.
        InputError
            If a weight is missing, unknown or changed.
        """
        folder = model_folder(place, **without_auto(hub))
        if not (folder / "bridge.safetensors").is_file():
            raise FileNotFoundError(
                f"{folder} holds no model: make one with `fmrilm train align` or `instruct`"
            )
        config = read_model_config(folder / "config.json", ("vq_model", "lm"))
        tokenizer = FMRITokenizer.from_pretrained(folder / "tokenizer")
        with reading(folder / "lm", RETRAIN):
            lm, text_tokenizer, base = reload_language_model(config.lm, folder / "lm")
        with reading(folder, RETRAIN):
            model = cls(config, tokenizer, lm, text_tokenizer)
        model.base = base
        model.config.evidence = _evidence(folder / "config.json")
        load_exactly(model, folder / "bridge.safetensors", without=("lm.", "tokenizer."))
        check_seal(folder, RETRAIN)
        model.source = folder
        is_spread = isinstance(device_map, dict) or device_map == "auto"
        where: Any = choose_device(device if device_map is None or is_spread else str(device_map))
        model.lm.to(choose_dtype(dtype, where))
        return dispatch(model, device_map).eval() if is_spread else model.to(where).eval()


def _evidence(path: Path) -> list[str]:
    names = read_json(path, RETRAIN).get("evidence", [])
    if not isinstance(names, list) or len(names) > EVIDENCE_SLOTS:
        raise InputError(f"{path}: `evidence` is no list of tasks: {RETRAIN}")
    return [str(name) for name in names]
