"""A data folder of the original, read as it lies: nothing in it is ever written.

``data/<cohort>/fmri/<atlas>/`` holds the store, ``metadata_with_text_medical_gpt.csv`` (one row per
scan: ``subject_id``, ``session_id``, labels, texts), ``normalization_params.npz`` and descriptors.
Where our own files about such a folder go is a folder of its own (``state``), beside the run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fmrilm.cohort.foreign import METADATA, ORIGINAL_T_R, is_ours
from fmrilm.cohort.scaling import Scaler, learned_global
from fmrilm.errors import InputError
from fmrilm.readers import read_arrays, read_table, reading
from fmrilm.studies.known import COHORTS, CohortInfo
from fmrilm.studies.phenotypes import subject_key

if TYPE_CHECKING:
    from fmrilm.cohort.store import TimeSeriesStore

TEXTS = ("text_description_refined", "text_description")  # its texts about a person, best first
ATLASES = {"TianS3": "schaefer400_tianS3"}  # its name of the folder -> that of the parcellation
FOLDERS = ("data/{name}/fmri/TianS3", "{name}/fmri/TianS3")  # where a cohort lies, by its name
_SEX = {0.0: "F", 1.0: "M"}
_KEYS = {  # of its scaling file: centre and scale
    "robust_global": ("medians", "iqrs"),
    "standard_global": ("mean", "std"),
    "robust_global_roi": ("medians_roi", "iqrs_roi"),
    "standard_global_roi": ("mean_roi", "std_roi"),
}
_MANY = 2000  # scans up to which it is worked out whose statistics a scaling file holds


def find_cohort(name: str) -> Path:
    """Return the folder of a cohort that is given by folder, or by its name in the original's tree.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    places = [
        Path(name),
        *(Path(place.format(name=n)) for n in _spellings(name) for place in FOLDERS),
    ]
    for place in places:
        if (place / "data_resampled.h5").is_file():
            return place
    if places[0].is_dir():
        return places[0]
    raise FileNotFoundError(
        f"cohort {name!r} not found: give its folder, or put it at {FOLDERS[0].format(name=name)}"
    )


def _spellings(name: str) -> list[str]:
    return list(dict.fromkeys([name, name.replace("-", "_"), name.replace("_", "-")]))


def info_from_path(folder: Path) -> CohortInfo | None:
    """Return what ``.../<cohort>/fmri/<atlas>`` says of a cohort; None for another path."""
    for parts in (folder.absolute().parts, folder.resolve().parts):
        if len(parts) > 3 and parts[-2] == "fmri":
            name, atlas = parts[-3], ATLASES.get(parts[-1], "")
            for known in COHORTS:
                if _plain(known) == _plain(name):
                    return COHORTS[known]
            return CohortInfo(
                name, f"This scan is from the cohort {name}.", t_r=ORIGINAL_T_R, atlas=atlas
            )
    return None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def state_folder(
    folder: Path, name: str, state_dir: str | None, runs: Sequence[Path]
) -> Path | None:
    """Return where our files about a cohort go whose folder is not ours to write to.

    Parameters
    ----------
    folder : path
        Of the cohort; one that is ours needs no other (None).
    name : str
        Of the cohort.
    state_dir : str, optional
        What the user named (``data.state_dir``).
    runs : sequence of path
        Run folders that may hold it, in ``cohorts/<name>``: the first that does, else the first.
    """
    if is_ours(folder):
        return None
    if state_dir is not None:
        return Path(state_dir) / name
    places = [run / "cohorts" / name for run in runs]
    return next((place for place in places if place.is_dir()), places[0] if places else None)


def read_metadata(folder: Path, subjects: Sequence[str], sessions: Sequence[str]) -> pd.DataFrame:
    """Return the metadata of the scans of a store, in its order, joined by id.

    The columns ``sex`` is coded as here (F, M); a scan without a row has no labels.

    Raises
    ------
    InputError
        If ids are missing or occur twice, no scan has a row, or sex is coded the other way round.
    """
    path = folder / METADATA
    raw = read_table(path, ",", dtype={"subject_id": str, "session_id": str}, low_memory=False)
    if "subject_id" not in raw:
        raise InputError(f"{path} has no column subject_id")
    keys = ["_subject", *(["session_id"] if "session_id" in raw else [])]
    raw["_subject"] = raw.pop("subject_id").map(_subject)
    twice = raw[raw.duplicated(keys)]
    if len(twice):
        raise InputError(f"{path}: subject {twice['_subject'].iloc[0]} occurs twice in one session")
    table = pd.DataFrame({"subject_id": list(subjects), "session_id": list(sessions)})
    table["_subject"] = table["subject_id"].map(_subject)
    if table.groupby("_subject")["subject_id"].nunique().max() > 1:
        raise InputError(f"{folder}: two subjects of the store differ only in zeros or punctuation")
    joined = table.merge(raw, on=keys, how="left", validate="many_to_one", indicator="_in")
    if not (joined["_in"] == "both").any():
        raise InputError(
            f"{path} has no row for any scan of the store, whose first is subject {subjects[0]} "
            f"session {sessions[0]}: compare subject_id and session_id"
        )
    joined = joined.drop(columns=["_subject", "_in"])
    unnamed = [name for name in joined if str(name).startswith("Unnamed:")]  # an index of pandas
    joined = joined.drop(columns=unnamed)
    if "sex" in joined and pd.api.types.is_numeric_dtype(joined["sex"]):
        _check_sex(joined, path)
        joined["sex"] = joined["sex"].map(_SEX)
    return joined


def _subject(value: Any) -> Any:
    return subject_key(re.sub(r"\.0$", "", value)) if isinstance(value, str) else value


def _check_sex(table: pd.DataFrame, path: Path) -> None:
    """Raise :class:`InputError` if sex is not 0 for women and 1 for men, as far as texts tell."""
    other = set(table["sex"].dropna().unique()) - set(_SEX)
    if other:
        raise InputError(f"{path}: sex is {sorted(other)[0]:g}, expected 0 (female) or 1 (male)")
    column = next((name for name in TEXTS if name in table), None)
    if column is None:
        return
    texts = table[column].fillna("").str.lower()
    female = texts.str.contains(r"\b(?:female|woman|girl)\b")
    male = texts.str.contains(r"\b(?:male|man|boy)\b")
    told = (female ^ male) & table["sex"].notna()
    wrong = told & (male != (table["sex"] == 1))
    if wrong.sum() > told.sum() / 2:
        raise InputError(
            f"{path}: sex says otherwise than {column} in {wrong.sum()} of {told.sum()} rows: it "
            "is read as 0 female, 1 male"
        )


def read_scaling(
    folder: Path, norm: str, store: TimeSeriesStore, train: np.ndarray
) -> tuple[Scaler, str]:
    """Return the scaling that the folder's ``normalization_params.npz`` holds, and a note on it.

    Parameters
    ----------
    folder : path
    norm : str
        One of the global norms; the others need no file.
    store : TimeSeriesStore
    train : ndarray of int
        Training scans, to say whose statistics the file holds.

    Raises
    ------
    InputError
        If the file lacks the keys, or they do not fit the store.
    """
    path = folder / "normalization_params.npz"
    file = read_arrays(path)
    missing = [key for key in _KEYS[norm] if key not in file]
    if missing:
        raise InputError(f"{path} has no {missing[0]!r}, which norm {norm} needs")
    with reading(path):
        centre, scale = (np.squeeze(np.asarray(file[key], float)) for key in _KEYS[norm])
    size = (store.n_rois,) if norm.endswith("_roi") else ()
    if centre.shape != size or scale.shape != size or not (scale > 0).all():
        raise InputError(
            f"{path}: {' and '.join(_KEYS[norm])} have shapes {centre.shape} and {scale.shape}, "
            f"norm {norm} needs {size}, and scales above 0"
        )
    scaler = Scaler(norm)
    scaler.center_, scaler.scale_ = centre.tolist(), scale.tolist()
    scaler.is_fitted = True
    whose = "it does not say of which people, perhaps of test people too"
    if len(store) <= _MANY:
        everyone = (np.arange(len(store)), "ALL people, test people too")
        for rows, words in (everyone, (train, "the training people")):
            again = zip(learned_global(norm, store, rows), (centre, scale), strict=True)
            if all(np.allclose(ours, theirs, rtol=1e-5, atol=0) for ours, theirs in again):
                whose = f"they are those of {words}"
                scaler.fitted_on_ = sorted({store.subjects[int(row)] for row in rows})
                break
    return scaler, f"scaled by {norm} with the statistics in {path}: {whose}"
