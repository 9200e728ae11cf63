"""Saved tokenizers: built from a configuration, written, read exactly or refused, uploaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from transformers import PreTrainedModel

from fmrilm.config.schema import TokenizerConfig, read_model_config
from fmrilm.files import check_seal, write_seal
from fmrilm.readers import reading
from fmrilm.registry import Registry
from fmrilm.tokenizer.configuration import FMRITokenizerConfig
from fmrilm.weights import choose_device, load_exactly, model_folder, upload, without_auto

WEIGHTS = "tokenizer.safetensors"
TOKENIZERS: Registry[type[Any]] = Registry("tokenizer")


class SavedTokenizer(PreTrainedModel):
    """A tokenizer that is saved, loaded and uploaded.

    Parameters
    ----------
    config : TokenizerConfig or FMRITokenizerConfig
    """

    config: FMRITokenizerConfig
    config_class = FMRITokenizerConfig
    main_input_name = "fmri"

    def __init__(self, config: TokenizerConfig | FMRITokenizerConfig) -> None:
        if isinstance(config, TokenizerConfig):
            config = FMRITokenizerConfig(config)
        super().__init__(config)

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:  # type: ignore[override]
        """Write ``config.json`` and ``tokenizer.safetensors``."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = self.config.to_diff_dict() | {"architectures": [type(self).__name__]}
        (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        state = {name: value.contiguous() for name, value in self.state_dict().items()}
        save_file(state, folder / WEIGHTS)
        write_seal(folder, ["config.json", WEIGHTS])

    def push_to_hub(self, repo_id: str, **hub: Any) -> str:  # type: ignore[override]
        """Upload the tokenizer to the Hugging Face hub.

        Parameters
        ----------
        repo_id : str
        **hub
            As for :func:`fmrilm.weights.upload`.
        """
        return upload(self.save_pretrained, repo_id, **hub)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, place: str | Path, *, device: str = "cpu", **hub: Any
    ) -> Self:
        """Read what :meth:`save_pretrained` wrote; the model is in evaluation mode.

        Parameters
        ----------
        place : path or str
            A run folder of stage tokenizer, its ``model/`` folder, or a name on the Hugging Face
            hub.
        device : str
            ``auto``, ``cpu``, ``cuda``, ...
        **hub
            ``revision``, ``token``, ``cache_dir`` and ``local_files_only``, for a hub name.

        Raises
        ------
        FileNotFoundError
            If the folder holds no tokenizer.
        InputError
            If a weight is missing, unknown or of another shape.
        """
        folder = model_folder(place, **without_auto(hub))
        if not (folder / WEIGHTS).is_file():
            raise FileNotFoundError(
                f"{folder} holds no tokenizer: make one with `fmrilm train tokenizer`"
            )
        config = read_model_config(folder / "config.json", ("vq_model",)).vq_model
        with reading(folder, "restore it, or train again"):
            tokenizer: Self = build_tokenizer(config)
        load_exactly(tokenizer, folder / WEIGHTS)
        check_seal(folder, "restore it, or train again")
        where: Any = choose_device(device)
        return tokenizer.to(where).eval()


def build_tokenizer(config: TokenizerConfig) -> Any:
    """The tokenizer of a configuration: a grid of tokens, or TiTok's latent ones."""
    return TOKENIZERS["grid" if config.num_latent_tokens is None else "latent"](config)
