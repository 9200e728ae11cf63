"""What a run has seen, for later comparison: lineage, ``trained_on.tsv`` and ``trained_on.npz``.

The table names the scans of train and val. The archive holds, for every scan of the cohorts
(``ids``: cohort, subject, session; ``checksums``) and every column of their participants
(``columns``: cohort, column; ``values``: a hash of every scan's value), the state at training time;
and of the scans in the table, in its order, the fingerprints (:mod:`fmrilm.lineage.fingerprints`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmrilm.cohort.checksums import read_checksums
from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.labels import write_table
from fmrilm.errors import InputError
from fmrilm.files import write_arrays
from fmrilm.lineage.fingerprints import Fingerprints
from fmrilm.readers import read_arrays, read_table, reading
from fmrilm.run_record import read_lineage
from fmrilm.tables.columns import as_words

TRAINED_ON_FILE = "trained_on.tsv"
SEEN_FILE = "trained_on.npz"
_COLUMNS = ["cohort", "participant_id", "session_id", "split", "checksum"]
_KEYS = ["subject_id", "session_id"]


@dataclass(frozen=True)
class State:
    """The scans and values of one cohort when a run was trained.

    Attributes
    ----------
    checksums : Series of str
        One per scan, by subject and session.
    values : DataFrame of uint32
        A hash of every value of the participants' columns, by subject and session.
    seen : Fingerprints
        Of the scans of train and val.
    """

    checksums: pd.Series
    values: pd.DataFrame
    seen: Fingerprints

    @classmethod
    def of(cls, cohort: Cohort) -> State:
        """Return the present state of a cohort."""
        index = pd.MultiIndex.from_frame(cohort.table[_KEYS].astype(str))
        names = [name for name in cohort.table if name not in (*_KEYS, "split")]
        values = {
            str(name): [zlib.crc32(word.encode()) for word in as_words(cohort.table[name])]
            for name in names
        }
        return cls(
            pd.Series(read_checksums(cohort.store), index),
            pd.DataFrame(values, index).astype(np.uint32),
            Fingerprints.of(cohort.store, np.flatnonzero(cohort.table["split"] != "test")),
        )


def write_trained_on(folder: str | Path, cohorts: Sequence[Cohort]) -> None:
    """Write the scans of the train and val splits, which a run learns from or is selected on."""
    tables = []
    arrays: dict[str, np.ndarray] = {"cohorts": np.array([c.name for c in cohorts], dtype=str)}
    for number, cohort in enumerate(cohorts):
        table = cohort.table.assign(cohort=cohort.name, checksum=read_checksums(cohort.store))
        table = table[table["split"] != "test"].rename(columns={"subject_id": "participant_id"})
        tables.append(table[_COLUMNS])
        state = State.of(cohort)
        parts = {
            "ids": np.array(state.checksums.index.tolist(), dtype=str).reshape(-1, 2),
            "checksums": np.array(state.checksums.tolist(), dtype=str),
            "columns": np.array(list(state.values), dtype=str),
            "values": state.values.to_numpy(),
            "series": state.seen.series.astype(np.float16),
            "fc": state.seen.fc.astype(np.float16),
            "lengths": state.seen.lengths,
            "n_rois": np.array(state.seen.n_rois),
        }
        arrays |= {f"{number}/{name}": values for name, values in parts.items()}
    write_table(pd.concat(tables, ignore_index=True), Path(folder) / TRAINED_ON_FILE)
    write_arrays(Path(folder) / SEEN_FILE, arrays, compressed=True)


def read_trained_on(folder: str | Path) -> pd.DataFrame | None:
    """Return the scans a run has seen; None if the run does not say.

    Raises
    ------
    InputError
        If the table is damaged, or cut off behind its header.
    """
    path = Path(folder) / TRAINED_ON_FILE
    if not path.is_file():
        return None
    needed = ("cohort", "participant_id", "session_id", "split")
    table = read_table(path, needed=needed, dtype=str, keep_default_na=False)
    if table.empty:
        raise InputError(f"{path} names no scan, but the run was trained: restore it")
    return table


def about_data(cohort: Cohort) -> dict[str, Any]:
    """Return what a lineage keeps of a cohort: where it lies, and what it held."""
    return {
        "folder": str(cohort.folder.resolve()),
        "state": None if cohort.state is None else str(cohort.state.resolve()),
        "fingerprint": cohort.fingerprint(),
        "fingerprints": cohort.fingerprints(),
        "synthetic": cohort.info.synthetic,
        "scaling": cohort.scaler.to_dict(),
    }


def changed_since(run: str | Path, cohort: Cohort) -> dict[str, list[str]]:
    """Return what of a cohort is no longer what a run was trained on.

    Parameters
    ----------
    run : path
        Run folder, with ``lineage.json``.
    cohort : Cohort
        One it was trained on, by its name; of another nothing has changed.

    Returns
    -------
    dict of str to list of str
        Kind of change (``scans``, ``splits``, ``scaling``, ``labels``, ``descriptors``) -> what
        changed: scans, the label columns, the families. Columns and families added since are no
        change. Empty: it is the same.
    """
    known = read_lineage(Path(run))["cohorts"].get(cohort.name)
    if known is None:
        return {}
    now = cohort.fingerprints()
    before = known.get("fingerprints")
    if before is None:  # only one hash was kept
        same = known.get("fingerprint") in (None, cohort.fingerprint())
        return {} if same else {"scans": ["scans or splits"]}
    changes: dict[str, list[str]] = {}
    for kind in ("scans", "splits", "scaling"):
        if before[kind] != now[kind]:
            changes[kind] = _changed_scans(run, cohort, kind)
    for kind in ("labels", "descriptors"):
        names = _changed_names(before[kind], now[kind])
        if names:
            changes[kind] = names
    return changes


def _changed_names(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [name for name, value in before.items() if now.get(name) != value]


def _changed_scans(run: str | Path, cohort: Cohort, kind: str) -> list[str]:
    """Return train and val scans whose series or split changed since; empty if none of them did."""
    seen = read_trained_on(run)
    column = {"scans": "checksum", "splits": "split"}.get(kind)
    if seen is None or column is None or column not in seen:
        return []
    seen = seen[seen["cohort"] == cohort.name]
    table = cohort.table.assign(checksum=read_checksums(cohort.store))
    keys = pd.MultiIndex.from_frame(table[["subject_id", "session_id"]])
    now = pd.Series(table[column].to_numpy(), index=keys)
    ids = pd.MultiIndex.from_frame(seen[["participant_id", "session_id"]])
    present = now.reindex(ids).to_numpy()
    moved = present != seen[column].to_numpy()
    return [f"{subject} {session}" for subject, session in ids[moved]]


def read_states(folder: str | Path) -> dict[str, State] | None:
    """Return the state of every cohort a run was trained on, by name; None if it does not say."""
    path = Path(folder) / SEEN_FILE
    if not path.is_file():
        return None
    states = {}
    file = read_arrays(path, ("cohorts",))
    with reading(path):
        for number, name in enumerate(file["cohorts"].tolist()):
            part = {key: file[f"{number}/{key}"] for key in ("ids", "checksums", "columns")}
            index = pd.MultiIndex.from_arrays(part["ids"].T.tolist(), names=_KEYS)
            states[name] = State(
                pd.Series(part["checksums"], index),
                pd.DataFrame(file[f"{number}/values"], index, part["columns"].tolist()),
                Fingerprints(
                    file[f"{number}/series"],
                    file[f"{number}/fc"],
                    file[f"{number}/lengths"],
                    int(file[f"{number}/n_rois"]),
                ),
            )
    return states


def check_scaling(trained: Mapping[str, Any], cohort: Cohort, run: str | Path) -> None:
    """Raise :class:`InputError` unless a cohort is scaled as a run scaled what it was trained on.

    Parameters
    ----------
    trained : mapping
        ``cohorts`` of the run's lineage. A cohort that is not among them has to have a norm that
        one of them had, unless series are taken as they are (``none``).
    cohort : Cohort
    run : path
        The run folder, for the message.
    """
    now = cohort.scaler.to_dict()
    if cohort.name not in trained:
        scalings = [known["scaling"] for known in trained.values() if "scaling" in known]
        norms = sorted({scaling["norm"] for scaling in scalings})
        if norms and now["norm"] not in norms and "none" not in [now["norm"], *norms]:
            raise InputError(
                f"{cohort.name} is scaled by {now['norm']!r}, {run} was trained on scans scaled by "
                f"{' and '.join(map(repr, norms))}: set data.norm to the same"
            )
        return
    then = trained[cohort.name].get("scaling")
    if then is None:  # the lineage of an older run
        return
    if now["norm"] != then["norm"]:
        raise InputError(
            f"{cohort.name} is scaled by {now['norm']!r}, {run} was trained on it scaled by "
            f"{then['norm']!r}: set data.norm={then['norm']}"
        )
    learned = ("center", "scale", "site_scale")
    differing = [name for name in learned if now[name] != then[name]]
    if differing:
        name = differing[0]
        raise InputError(
            f"{cohort.name} is scaled with {name} {now[name]}, {run} was trained on it scaled with "
            f"{then[name]}: restore the cohort's normalization_params.npz, or train again"
        )
