"""The known cohorts: one YAML file each. Anyone's own is a ``cohort.yaml`` of the same form."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from fmrilm.errors import InputError
from fmrilm.readers import check_name, read_yaml
from fmrilm.registry import Registry, suggest


@dataclass(frozen=True)
class CohortInfo:
    """What is known of a cohort before its data are opened (the keys of ``cohort.yaml``)."""

    name: str
    description: str  # one sentence, told to the model when add_src_info is on
    t_r: float = 2.0  # seconds, of the original acquisition
    targets: list[str] = field(default_factory=list)  # tasks asked of it by default
    norm: str = "robust_roi"  # scaling its store needs
    synthetic: bool = False  # made up by `fmrilm simulate`; shown wherever a result is shown
    source: str = ""  # where the series come from
    atlas: str = ""  # parcellation of a store that does not name its own
    # where the scans lie: paths below the root with {subject} {session} {run} {dir} {site} and *;
    # none: derivatives with BIDS names
    files: list[str] = field(default_factory=list)
    sessions: str = "all"  # all | first: which sessions of a subject are used
    # our column -> that of the table; "A | B" where releases name it differently
    columns: dict[str, str] = field(default_factory=dict)
    optional: list[str] = field(default_factory=list)  # of these, the ones a table may lack
    missing: dict[str, list[Any]] = field(default_factory=dict)  # column -> codes for "missing"
    values: dict[str, dict[str, Any]] = field(default_factory=dict)  # column -> its value -> ours
    factors: dict[str, float] = field(default_factory=dict)  # column -> what it is multiplied by
    thresholds: dict[str, float] = field(default_factory=dict)  # column -> 1 above this, else 0
    bins: list[str] = field(default_factory=list)  # columns that get <name>_enc: 0, 1, 2
    caveat: str = ""  # what else may carry the answers; shown beside results, never to the model


_INSIDE = {  # type of a key -> of what it holds
    "list[str]": (str,),
    "dict[str, str]": (str,),
    "dict[str, list[Any]]": (list,),
    "dict[str, dict[str, Any]]": (dict,),
    "dict[str, float]": (int, float),
}


def _check_inside(value: Any, kind: str, where: str) -> None:
    """Raise :class:`InputError` if a list or mapping holds anything else than it should."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where} is {value}, expected a number")
    wanted = _INSIDE.get(kind)
    if wanted is None:
        return
    keys = list(value) if isinstance(value, dict) else []
    items = list(value.values()) if isinstance(value, dict) else list(value)
    wrong = [item for item in items if not isinstance(item, wanted) or isinstance(item, bool)]
    wrong += [key for key in keys if not isinstance(key, str)]
    if wrong:
        raise InputError(f"{where} holds {str(wrong[0])[:60]!r}, expected {kind}: correct it")


COHORTS: Registry[CohortInfo] = Registry("cohort")


def cohort_from_dict(
    values: dict[str, Any], source: str, base: CohortInfo | None = None
) -> CohortInfo:
    """Return the cohort that the keys of a YAML file describe.

    Parameters
    ----------
    values : dict
        Keys of :class:`CohortInfo`.
    source : str
        The file, for messages.
    base : CohortInfo, optional
        What is changed by the keys; None: an unnamed cohort.

    Raises
    ------
    InputError
        If a key is unknown, has the wrong type, or ``sessions`` is neither all nor first.
    """
    kinds = {item.name: item for item in dataclasses.fields(CohortInfo)}
    for key, value in values.items():
        if key not in kinds:
            raise InputError(f"{source}: unknown key {key!r}{suggest(key, list(kinds))}")
        wanted = str(kinds[key].type).split("[")[0]
        given = "float" if wanted == "float" and type(value) is int else type(value).__name__
        if given != wanted:
            raise InputError(f"{source}: {key} is a {given}, expected a {wanted}")
        _check_inside(value, str(kinds[key].type), f"{source}: {key}")
    if "name" in values:
        check_name(values["name"], f"{source}: the name")
    info = dataclasses.replace(base or CohortInfo("", ""), **values)
    if info.sessions not in ("all", "first"):
        raise InputError(f"{source}: sessions is {info.sessions!r}, use all or first")
    return info


def read_cohort_yaml(path: str | Path) -> CohortInfo:
    """Return the cohort in a YAML file; a known name there is the base of what is not given."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: give a cohort name or the path of a YAML file")
    values = read_yaml(path)
    if not values:  # cut off? a SYNTHETIC cohort would pass for a real one
        raise InputError(f"{path} says nothing: restore it, or give at least name: and targets:")
    values.setdefault("name", path.parent.name if path.stem == "cohort" else path.stem)
    known = values["name"] in COHORTS
    base = COHORTS[values["name"]] if known else None
    return cohort_from_dict(values, str(path), base)


for _path in sorted((files("fmrilm.studies") / "tables").iterdir(), key=lambda item: item.name):
    if _path.name.endswith(".yaml"):
        _values = yaml.safe_load(_path.read_text(encoding="utf-8"))
        COHORTS.register(_values["name"])(cohort_from_dict(_values, _path.name))
