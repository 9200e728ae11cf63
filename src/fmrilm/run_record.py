"""``lineage.json`` of a run folder: where a run comes from, found again after folders were moved.

Paths in it are relative to the run folder, so that a tree of runs and data can be moved as one; the
absolute ones they had are kept beside them (``places``), for a run that is moved alone. A parent is
taken for one only if it is the very run (``parent_run``).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fmrilm.errors import InputError
from fmrilm.files import replacing
from fmrilm.readers import check_types, read_json

LINEAGE = "lineage.json"
STAGES = ("tokenizer", "align", "instruct")
_REMEDY = "restore it, or train the run again"
_FOLDERS = ("folder", "state")  # of a cohort


def write_record(folder: Path, lineage: dict[str, Any]) -> None:
    """Write a lineage whose paths are absolute, as they then can be found again."""
    cohorts = {name: dict(about) for name, about in lineage["cohorts"].items()}
    places: dict[str, Any] = {"parent": lineage["parent"], "cohorts": {}}
    content = {**lineage, "cohorts": cohorts, "parent": _relative(lineage["parent"], folder)}
    if lineage["parent"] is not None:
        content["parent_run"] = _run_id(Path(lineage["parent"]))
    for name, about in cohorts.items():
        places["cohorts"][name] = {key: about[key] for key in _FOLDERS if key in about}
        about |= {key: _relative(about[key], folder) for key in _FOLDERS if key in about}
    with replacing(folder / LINEAGE) as partial:
        text = json.dumps({**content, "places": places}, indent=2)
        partial.write_text(text, encoding="utf-8")


def read_lineage(folder: Path) -> dict[str, Any]:
    """Return the lineage of a run, the paths of its parent and cohorts absolute.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    path = folder / LINEAGE
    if not path.is_file():
        raise InputError(
            f"{folder} has no lineage.json: give the folder of a run, or leave out --resume where "
            "there is none to resume"
        )
    lineage = read_json(path, _REMEDY)
    check_types(lineage, {"stage": str, "parent": str | None, "cohorts": dict}, path, _REMEDY)
    if lineage["stage"] not in STAGES:
        raise InputError(f"{path}: there is no stage {lineage['stage']!r}: {_REMEDY}")
    base = lineage.get("language_model")
    if base is not None:
        check_types(lineage, {"language_model": dict}, path, _REMEDY)
        kinds = {"name": str, "weights": str, "revision": str | None}
        check_types(base, kinds, f"{path}: language_model", _REMEDY)
    for name, about in lineage["cohorts"].items():
        _check_cohort(name, about, path)
    return _located(lineage, folder)


def _check_cohort(name: str, about: Any, path: Path) -> None:
    where = f"{path}: cohorts: {name}"
    check_types({"it": about}, {"it": dict}, where, _REMEDY)
    for key, kind in (("folder", str), ("state", str | None), ("scaling", dict | None)):
        if key in about:
            check_types(about, {key: kind}, where, _REMEDY)
    if about.get("scaling"):
        kinds = dict.fromkeys(("norm", "center", "scale", "site_scale"), object)
        check_types(about["scaling"], {**kinds, "norm": str, "site_scale": dict}, where, _REMEDY)
    if "fingerprints" in about:
        check_types(about, {"fingerprints": dict}, where, _REMEDY)
        kinds = {"scans": str, "splits": str, "scaling": str, "labels": dict, "descriptors": dict}
        check_types(about["fingerprints"], kinds, f"{where}: fingerprints", _REMEDY)


def _located(lineage: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a lineage whose relative paths are those of what is there."""
    places = lineage.get("places")
    places = places if isinstance(places, dict) else {}
    was = places.get("cohorts")
    was = was if isinstance(was, dict) else {}
    cohorts = {}
    for name, about in lineage["cohorts"].items():
        before = was.get(name)
        before = before if isinstance(before, dict) else {}
        cohorts[name] = dict(about)
        for key in _FOLDERS:
            if isinstance(about.get(key), str):
                found = [p for p in _places(about[key], before.get(key), folder) if p.is_dir()]
                fallback = _places(about[key], before.get(key), folder)[-1]
                cohorts[name][key] = str(found[0] if found else fallback)
    located = {**lineage, "cohorts": cohorts}
    if lineage["parent"] is not None:
        candidates = _places(lineage["parent"], places.get("parent"), folder)
        beside = folder.resolve().parent / Path(lineage["parent"]).name
        known = lineage.get("parent_run")
        same = [p for p in (*candidates, beside) if (p / LINEAGE).is_file() and
                (known is None or _run_id(p) == known)]  # fmt: skip
        located["parent"] = str(same[0] if same else candidates[-1])
    return located


def find_parent(lineage: dict[str, Any]) -> Path | None:
    """Return the run folder that a run of this lineage started from; None if it had none.

    Raises
    ------
    InputError
        If it is gone.
    """
    if lineage["parent"] is None:
        return None
    folder = Path(lineage["parent"])
    if not (folder / LINEAGE).is_file():
        raise InputError(
            f"{folder}, which the run started from, is gone: put it back, or beside the run"
        )
    return folder


def is_run(folder: Path, run_id: str | None) -> bool:
    """Return whether a folder holds the run of this id."""
    return run_id is not None and _run_id(folder) == run_id


def _relative(path: str | None, folder: Path) -> str | None:
    if path is None:
        return None
    try:
        return Path(os.path.relpath(path, folder.resolve())).as_posix()
    except ValueError:  # another drive
        return path


def _places(path: str, was: Any, folder: Path) -> list[Path]:
    """Return where something may lie: as seen from the run folder, then where it once was."""
    seen = Path(os.path.normpath(folder.resolve() / path))
    return [seen, Path(was)] if isinstance(was, str) else [seen]


def _run_id(folder: Path) -> str | None:
    try:
        value = read_json(folder / LINEAGE).get("run")
    except InputError:
        return None
    return value if isinstance(value, str) else None
