"""The YAML files of the original fMRI-LM, in our words: keys it calls otherwise, values it knows.

Our own files pass through unchanged but for targets declared in place (``targets: {name: {...}}``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fmrilm.errors import InputError

# Its keys below model.vq_model -> ours.
_RENAMED = {
    "drop_path_rate": "drop_path",
    "gate_attention": "gate_attn",
    "latent_token_size": "code_dim",
    "commitment_cost": "beta",
}
# Keys of its TiTok files, which may stand at the top or directly below model there.
_TITOK = (
    "model_size", "latent_token_size", "num_latent_tokens", "use_l2_norm", "commitment_cost",
    "quantizer", "codebook_size", "patch_size", "num_timestamp", "num_rois",
)  # fmt: skip


def translate(content: Any, source: str) -> tuple[Any, list[str]]:
    """Return the content of a YAML file in our keys, and in sentences what is read otherwise.

    Parameters
    ----------
    content : DictConfig or mapping
        As it was loaded.
    source : str
        The file, for messages.

    Raises
    ------
    InputError
        If a value asks for what there is not (several input channels).
    """
    from omegaconf import OmegaConf

    values: Any = OmegaConf.to_container(content) if OmegaConf.is_config(content) else content
    if not isinstance(values, dict):
        return content, []
    notes: list[str] = []
    model = values.get("model")
    gathered: dict[str, Any] = {}
    for place in (values, model if isinstance(model, dict) else {}):
        if "model_size" in place or "latent_token_size" in place:
            gathered |= {key: place.pop(key) for key in _TITOK if key in place}
    if gathered:
        model = values.setdefault("model", {})
        model["vq_model"] = {**gathered, **(model.get("vq_model") or {})}
    if isinstance(model, dict):
        if isinstance(model.get("vq_model"), dict):
            _tokenizer(model["vq_model"], source, notes)
        lm = model.get("lm")
        if isinstance(lm, dict) and lm.get("base_model", "") is None:
            del lm["base_model"]  # what --lm_name or the default says
    _datasets(values, source)
    return OmegaConf.create(values), notes


def _tokenizer(vq: dict[str, Any], source: str, notes: list[str]) -> None:
    channels = vq.pop("in_chans", 1)
    if channels not in (1, None):
        raise InputError(f"{source}: in_chans is {channels}, region series have one channel: use 1")
    for theirs, ours in _RENAMED.items():
        if theirs in vq:
            vq.setdefault(ours, vq.pop(theirs))
    gate = vq.get("gate_attn", "none")
    if gate is None or gate is False:
        vq["gate_attn"] = "none"
    if "model_size" in vq:
        vq.setdefault("enc_cls", f"vit_{vq.pop('model_size')}")
    if "use_l2_norm" in vq:
        vq.setdefault("code_distance", "cosine" if vq.pop("use_l2_norm") else "euclidean")
    if "add_cls_token" in vq and vq.setdefault("cls_token", bool(vq.pop("add_cls_token"))):
        vq.setdefault("attention", "full")
        notes.append(f"{source}: add_cls_token needs attention: full (model.vq_model), as it was")
    points, patch = vq.get("num_timestamp"), vq.get("patch_size")
    if isinstance(points, int) and isinstance(patch, int) and 0 < patch < points and points % patch:
        if not vq.get("num_latent_tokens") and vq.get("quantizer") != "titok":
            return  # refused by name when the whole is checked
        vq["num_timestamp"] = points - points % patch
        notes.append(
            f"{source}: num_timestamp {points} is no multiple of patch_size {patch}: the first "
            f"{vq['num_timestamp']} time points are read"
        )


def _datasets(values: dict[str, Any], source: str) -> None:
    """Move targets that are declared in place to ``tasks``, and leave their names."""
    datasets = values.get("datasets")
    if not isinstance(datasets, dict):
        return
    declared: dict[str, Any] = dict(values.get("tasks") or {})
    for name, dataset in datasets.items():
        if isinstance(dataset, list):
            dataset = datasets[name] = {"targets": dataset}
        targets = dataset.get("targets") if isinstance(dataset, dict) else None
        if not isinstance(targets, Mapping):
            continue
        for target, about in targets.items():
            if about is None:
                continue  # one there is already
            task = _task(str(target), about, f"{source}: datasets.{name}.targets.{target}")
            if declared.setdefault(str(target), task) != task:
                raise InputError(
                    f"{source}: target {target} is declared twice with different content: give the "
                    "two different names and the same column"
                )
        dataset["targets"] = [str(target) for target in targets]
    if declared:
        values["tasks"] = declared


def _task(name: str, about: Any, where: str) -> dict[str, Any]:
    if not isinstance(about, Mapping):
        raise InputError(f"{where}: give question, answers and kind, or a plain list of targets")
    task = dict(about)
    answers = task.get("answers")
    if isinstance(answers, list):
        answers = dict(enumerate(answers))
    if answers is not None:
        task["answers"] = {_text(label): _text(answer) for label, answer in answers.items()}
    grid = task.pop("range", None)
    if grid is not None:
        try:
            low, high, step = (float(value) for value in grid)
        except (TypeError, ValueError):
            raise InputError(f"{where}: range is {grid!r}, write [first, last, step]") from None
        if step <= 0 or high <= low:
            raise InputError(f"{where}: range {grid!r} is empty, write [first, last, step]")
        task["values"] = [low + step * i for i in range(round((high - low) / step) + 1)]
    return task


def _text(value: Any) -> str:
    """Return a label or answer as text; YAML reads a bare yes or no as a truth value."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
