"""Which confounds of fMRIPrep are regressed: nilearn's strategies, each keyword open to change."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmrilm.errors import InputError
from fmrilm.readers import read_table
from fmrilm.registry import suggest

_MODELS = ("basic", "power2", "derivatives", "full")
_BOTH = {"motion": "full", "wm_csf": "basic"}
# Components and keywords of nilearn.interfaces.fmriprep.load_confounds, as its strategies set them.
PRESETS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "simple": (("high_pass", "motion", "wm_csf"), _BOTH),
    "scrubbing": (("high_pass", "motion", "wm_csf", "scrub"), {**_BOTH, "wm_csf": "full"}),
    "compcor": (("high_pass", "motion", "compcor"), {"motion": "full"}),
    "ica_aroma": (("high_pass", "wm_csf", "ica_aroma"), {"wm_csf": "basic"}),
    "custom": ((), {}),  # what confounds.* says, nothing else
}
STRATEGIES = ("auto", "none", *PRESETS)
# Keyword -> the component it belongs to, and the values it can have (none: numbers).
_KEYWORDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "motion": ("motion", _MODELS),
    "wm_csf": ("wm_csf", _MODELS),
    "global_signal": ("global_signal", _MODELS),
    "compcor": (
        "compcor",
        ("anat_combined", "anat_separated", "temporal", "temporal_anat_combined",
         "temporal_anat_separated"),
    ),
    "n_compcor": ("compcor", ()),
    "ica_aroma": ("ica_aroma", ("full", "basic")),
    "tedana": ("tedana", ("aggressive", "non-aggressive")),
    "scrub": ("scrub", ()),
    "fd_threshold": ("scrub", ()),
    "std_dvars_threshold": ("scrub", ()),
}  # fmt: skip
_COMPONENTS = ("high_pass", "motion", "wm_csf", "global_signal", "compcor", "ica_aroma", "tedana",
               "scrub")  # fmt: skip
_OTHERS = ("strategy", "columns", "demean")
_STEM = "sub-1_task-rest"  # of the copy that nilearn reads


@dataclass(frozen=True)
class Regressors:
    """What is asked of a confounds table.

    Attributes
    ----------
    components : tuple of str
        Components of :func:`nilearn.interfaces.fmriprep.load_confounds`.
    keywords : dict
        Its other arguments.
    columns : tuple of str
        Columns taken beside them, by name or shell pattern.
    """

    components: tuple[str, ...]
    keywords: dict[str, Any]
    columns: tuple[str, ...]


def choose_regressors(strategy: str, changes: Mapping[str, Any]) -> Regressors:
    """Return a preset with its keywords changed; a keyword brings its component along.

    Parameters
    ----------
    strategy : str
        A name in :data:`PRESETS`.
    changes : mapping
        Arguments of ``load_confounds``; None leaves the component out; ``columns``: more columns.

    Raises
    ------
    InputError
        If a key or a value is unknown.

    Examples
    --------
    >>> choose_regressors("simple", {"wm_csf": "full", "global_signal": "full"}).components
    ('high_pass', 'motion', 'wm_csf', 'global_signal')
    """
    known = [*_KEYWORDS, *_OTHERS]
    preset, keywords = PRESETS[strategy]
    components = list(preset)
    if changes.get("strategy") is not None:
        components = list(_words("strategy", changes["strategy"]))
        for name in components:
            if name not in _COMPONENTS:
                raise InputError(
                    f"confounds.strategy has {name!r}{suggest(name, list(_COMPONENTS))}; "
                    f"use some of: {', '.join(_COMPONENTS)}"
                )
    keywords = {key: value for key, value in keywords.items() if _KEYWORDS[key][0] in components}
    for key, value in changes.items():
        if key not in known:
            raise InputError(
                f"unknown setting confounds.{key}{suggest(key, known)}; known: {', '.join(known)}"
            )
        if key == "demean":
            keywords[key] = bool(value)
        if key in _OTHERS:
            continue
        component, allowed = _KEYWORDS[key]
        if value is None or value == "none":
            components = [name for name in components if name != component]
            keywords.pop(key, None)
            continue
        keywords[key] = _checked(key, value, allowed)
        if component not in components:
            components.append(component)
    if "compcor" in components and "high_pass" not in components:
        components.insert(0, "high_pass")  # CompCor of fMRIPrep is of high-passed data
    columns = tuple(_words("columns", changes.get("columns") or []))
    return Regressors(tuple(components), keywords, columns)


def _words(key: str, value: Any) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(v, str) for v in values):
        raise InputError(f"confounds.{key} is {value!r}: give names, confounds.{key}=[a,b]")
    return list(values)


def _checked(key: str, value: Any, allowed: tuple[str, ...]) -> Any:
    if allowed:
        if value not in allowed:
            raise InputError(
                f"confounds.{key} is {value!r}{suggest(str(value), list(allowed))}; "
                f"use one of: {', '.join(allowed)}"
            )
        return value
    if key == "n_compcor" and value == "all":
        return value
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    is_whole = key not in ("n_compcor", "scrub") or value == int(value) if is_number else False
    if not is_number or not is_whole or not 0 <= value < 1e6:
        raise InputError(f"confounds.{key} is {value!r}: give a number that is not negative")
    return value


def read_confounds(path: Path | None, volumes: int) -> pd.DataFrame | None:
    """Return a table with one row per volume (confounds, motion), None if there is no file.

    Raises
    ------
    InputError
        If it has another number of rows than the scan has volumes, or is no table.
    """
    if path is None or not path.is_file():
        return None
    table = read_table(path, na_values=["n/a"], remedy="restore the table of confounds")
    words = [name for name in table if table[name].dtype == object]
    if words:
        raise InputError(f"{path}: the column {words[0]} holds words, numbers were expected")
    if len(table) != volumes:
        raise InputError(f"{path} has {len(table)} rows, the scan {volumes} volumes")
    return table


def select_regressors(
    image: Path, confounds: Path, table: pd.DataFrame, wanted: Regressors
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the regressors of one scan, and which volumes are not censored.

    Parameters
    ----------
    image : Path
        The scan; only tedana's tables are looked for beside it.
    confounds : Path
        fMRIPrep's table, its JSON file beside it.
    table : DataFrame
        Its content.
    wanted : Regressors

    Returns
    -------
    regressors : DataFrame, (n_timepoints, n_regressors)
    kept : ndarray of bool, shape (n_timepoints,)
        False where scrubbing or fMRIPrep's non-steady-state columns leave a volume out.

    Raises
    ------
    InputError
        If the table lacks what is wanted.
    """
    parts, kept = [], np.ones(len(table), bool)
    if wanted.components:
        part, indices = _load(image, confounds, wanted)
        parts.append(part)
        if indices is not None:
            kept[:] = False
            kept[indices] = True
        if not kept.any():
            raise InputError(f"{confounds}: scrubbing would censor every volume")
    for pattern in wanted.columns:
        names = [name for name in table if fnmatchcase(str(name), pattern)]
        if not names:
            close = suggest(pattern, [str(name) for name in table])
            raise InputError(f"{confounds} has no column {pattern!r}{close}")
        parts.append(table[names].bfill(limit=1))  # derivatives begin with n/a
    joined = pd.concat(parts, axis=1) if parts else pd.DataFrame(index=table.index)
    joined = joined.loc[:, ~joined.columns.duplicated()]
    text = [name for name in joined if joined[name].dtype.kind not in "fiub"]
    lacking = text or [name for name in joined if not np.isfinite(joined[name]).all()]
    if lacking:
        raise InputError(f"{confounds}: the column {lacking[0]} holds values that are no number")
    return joined, kept


def _load(
    image: Path, confounds: Path, wanted: Regressors
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Call nilearn on a copy with the names it knows: old and uncompressed files have others."""
    from nilearn.interfaces.fmriprep import load_confounds

    with _scratch_folder() as folder:
        place = image
        if "tedana" not in wanted.components:
            is_aroma = "ica_aroma" in wanted.components and (
                wanted.keywords.get("ica_aroma", "full") == "full"
            )
            description = "smoothAROMAnonaggr" if is_aroma else "preproc"
            place = Path(folder, f"{_STEM}_desc-{description}_bold.nii.gz")
            shutil.copyfile(confounds, Path(folder, f"{_STEM}_desc-confounds_timeseries.tsv"))
            sidecar = confounds.with_suffix(".json")
            if sidecar.is_file():
                shutil.copyfile(sidecar, Path(folder, f"{_STEM}_desc-confounds_timeseries.json"))
        try:
            return load_confounds(str(place), strategy=wanted.components, **wanted.keywords)
        except Exception as error:  # nilearn raises many kinds of what the table lacks
            # KeyError: a column or a CompCor component that table or sidecar do not have.
            reason = str(error).replace(folder, str(confounds.parent)).strip().split("\n")[0]
            raise InputError(
                f"{confounds} lacks what {', '.join(wanted.components)} need: {reason}; "
                "choose another strategy=... or confounds.KEY=..."
            ) from None


@contextmanager
def _scratch_folder() -> Iterator[str]:
    """A temporary folder; nilearn finds a sidecar by replacing every "tsv" in its whole path."""
    with tempfile.TemporaryDirectory() as folder:
        if "tsv" not in Path(folder).name:
            yield folder
        else:
            with _scratch_folder() as other:
                yield other


_GROUPS = (
    (r"(trans|rot)_[xyz]", "motion"),
    (r"(csf|white_matter|csf_wm)", "white matter and CSF"),
    (r"global_signal", "global signal"),
    (r"cosine", "cosine drift"),
    (r"[actw]_comp_cor", "CompCor"),
    (r"aroma_motion", "ICA-AROMA"),
)


def summarise_regressors(names: list[str]) -> str:
    """Return how many regressors there are of each kind.

    Examples
    --------
    >>> summarise_regressors(["cosine00", "trans_x", "trans_x_power2"])
    '2 motion, 1 cosine drift'
    """
    counts = dict.fromkeys((kind for _, kind in _GROUPS), 0)
    for name in names:
        kind = next((kind for pattern, kind in _GROUPS if re.match(pattern, name)), name)
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
