"""The original's scripts by their names, as words of the command line `fmrilm`.

The files ``train_quantizer_contr.py``, ... in the root of the repository call :func:`main`. What a
flag of theirs stands for here is in :mod:`fmrilm.config.flags`;
docs/guide/coming-from-fmri-lm.md has all.
"""

from __future__ import annotations

import ast
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmrilm.errors import InputError
from fmrilm.progress import say
from fmrilm.readers import read_file, read_yaml, reading

DATASETS = Path("configs/dataset_config.yaml")  # which cohorts, and what they are asked
SENTENCES = Path("dataset.py")  # of the original: DATASET_INFO = {cohort: sentence}
_STAGES = {
    "train_quantizer_contr": "tokenizer",
    "train_pretrain_paired": "align",
    "train_instruction": "instruct",
}


def main(script: str, arguments: Sequence[str] | None = None) -> None:
    """Run one of the original's scripts with its arguments (default: those of the process)."""
    from fmrilm.cli.verbs import main as run

    words = list(sys.argv[1:] if arguments is None else arguments)
    with tempfile.TemporaryDirectory() as place:
        try:
            command = translate(script, words, Path(place))
        except (InputError, FileNotFoundError) as error:
            print(f"fmrilm: {error}", file=sys.stderr)
            sys.exit(2)
        run(command)


def translate(script: str, words: list[str], place: Path) -> list[str]:
    """Return the words of the `fmrilm` command that a script of the original stands for.

    Parameters
    ----------
    script : str
        Its name, without ``.py``.
    words : list of str
        Its arguments.
    place : path
        Folder for a YAML file with the sentences of ``dataset.py``.

    Raises
    ------
    InputError
        If there is no such script, or no cohort of ``dataset_config.yaml`` is there.
    """
    if script in _STAGES:
        return _train(_STAGES[script], words, place)
    if script == "eval_zeroshot":
        return _evaluate(words, place)
    if script == "merge_deepspeed_checkpoint":
        return _merge(words)
    raise InputError(f"there is no script {script}.py")


def _train(stage: str, words: list[str], place: Path) -> list[str]:
    command = ["train", stage, *_settings(place), *words]
    if stage == "tokenizer":
        depth = _decoder_depth(words)
        command += [] if depth is None else [f"model.vq_model.dec_layer={depth}"]
    if stage == "instruct" and not _given(words, "dataset_dir", "datasets", "data.dataset_dir"):
        command.append(f"data.dataset_dir=[{','.join(_present_cohorts())}]")
    return command


def _evaluate(words: list[str], place: Path) -> list[str]:
    command = ["evaluate", *_settings(place), *words]
    if not _given(words, "datasets"):
        command += ["--datasets", ",".join(_present_cohorts())]
    return command


def _merge(words: list[str]) -> list[str]:
    given = _values(words)
    unknown = set(given) - {"checkpoint_dir", "output_file"}
    if unknown:
        raise InputError(f"unknown flag --{min(unknown)}; known: --checkpoint_dir, --output_file")
    for name in ("checkpoint_dir", "output_file"):
        if not given.get(name):
            raise InputError(f"merge_deepspeed_checkpoint.py needs --{name}")
    folder, output = Path(given["checkpoint_dir"]), Path(given["output_file"])
    # Checkpoints are in checkpoints/ of a run folder here, and the whole run is what is merged.
    places = [folder, *folder.parents][:3]
    run = next((place for place in places if (place / "lineage.json").is_file()), folder)
    target = output.with_suffix("") if output.suffix == ".pt" else output
    return ["merge", str(run), "--output", str(target), "--checkpoint"]


def _settings(place: Path) -> list[str]:
    """Return the options that put in what the original read by itself: targets and sentences."""
    options: list[str] = []
    if DATASETS.is_file():
        options += ["--config", str(DATASETS)]
    sentences = dataset_info(SENTENCES)
    if sentences:
        # JSON is YAML
        content = {"datasets": {name: {"description": s} for name, s in sentences.items()}}
        path = place / SENTENCES.with_suffix(".yaml").name
        path.write_text(json.dumps(content), encoding="utf-8")
        options += ["--config", str(path)]
    return options


def dataset_info(path: Path) -> dict[str, str]:
    """Return the sentences of ``DATASET_INFO`` in a Python file, which is read and not run.

    Raises
    ------
    InputError
        If it is not a plain dict of strings.
    """
    if not path.is_file():
        return {}
    for node in _statements(path):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not any(isinstance(t, ast.Name) and t.id == "DATASET_INFO" for t in targets):
            continue
        try:
            values: Any = ast.literal_eval(node.value)  # type: ignore[attr-defined]
        except ValueError:
            values = None
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            raise InputError(f"{path}: DATASET_INFO is no plain dict of cohort names and sentences")
        return {str(name): sentence for name, sentence in values.items()}
    return {}


def _statements(path: Path) -> list[ast.stmt]:
    with reading(path, "correct it, or take it away"):
        return ast.parse(read_file(path)).body


def _present_cohorts() -> list[str]:
    """Return the cohorts of ``dataset_config.yaml`` that lie below ``data/``, and name the others.

    Raises
    ------
    InputError
        If there are none.
    """
    from fmrilm.cohort.original import FOLDERS, find_cohort
    from fmrilm.config.schema import load_config

    if not DATASETS.is_file():
        raise InputError(f"{DATASETS} not found here: name the cohorts by --dataset_dir")
    folders, absent = [], []
    for name in load_config([DATASETS]).datasets:
        try:
            folders.append(str(find_cohort(name)))
        except FileNotFoundError:
            absent.append(name)
    where = FOLDERS[0].format(name="<cohort>")
    if not folders:
        raise InputError(f"none of the cohorts of {DATASETS} is in {where}: name them yourself")
    if absent:
        say(f"not in {where}, left out: {', '.join(absent)}", error=True)
    return folders


def _decoder_depth(words: list[str]) -> int | None:
    """Return the encoder's depth, the original's decoder's; None where a depth is given."""
    from omegaconf import OmegaConf

    from fmrilm.config.schema import load_config

    path = _values(words).get("cfg_path")
    if not path or not Path(path).is_file() or _given(words, "model.vq_model.dec_layer"):
        return None
    if OmegaConf.select(OmegaConf.create(read_yaml(path)), "model.vq_model.dec_layer") is not None:
        return None
    return load_config([path]).model.vq_model.size[1]


def _values(words: Sequence[str]) -> dict[str, str]:
    """Return the values of ``--flag value`` and ``--flag=value``, empty where there is none."""
    found: dict[str, str] = {}
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            bare = "" if following.startswith("--") else following
            found[name.replace("-", "_")] = value or bare
    return found


def _given(words: Sequence[str], *names: str) -> bool:
    pairs = {word.partition("=")[0] for word in words if "=" in word and not word.startswith("--")}
    return any(name in pairs or name in _values(words) for name in names)
