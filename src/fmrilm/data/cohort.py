"""A cohort folder: the store, its participants, splits, scaling and descriptors, joined by id."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from fmrilm.data.atlas import Atlas, shipped_atlases
from fmrilm.data.cohorts import COHORTS, CohortInfo, read_cohort_yaml
from fmrilm.data.pack import open_pack
from fmrilm.data.replacing import replacing
from fmrilm.data.scaling import Scaler
from fmrilm.data.splits import SPLITS, read_splits, split_subjects
from fmrilm.data.store import TimeSeriesStore
from fmrilm.errors import InputError
from fmrilm.registry import suggest

STORE_FILE = "data_resampled.h5"
SCALING_FILE = "normalization_params.npz"
DESCRIPTOR_FOLDER = "descriptors_rewritten"


class Cohort:
    """One cohort on disk.

    Parameters
    ----------
    folder : path
        Holds ``data_resampled.h5``; beside it ``participants.tsv`` (BIDS), and where there are
        any ``cohort.yaml``, ``samples.tsv`` (labels of single scans or windows), ``splits.tsv``,
        ``descriptors_rewritten/<family>_descriptors.csv``.
    norm : str, optional
        Scaling; None: what ``cohort.yaml`` says.
    packed : bool
        Read from the copy that `fmrilm pack` made, if there is one with this scaling.

    Attributes
    ----------
    table : DataFrame
        One row per scan of the store, in its order: ``subject_id``, ``session_id``, ``split`` and
        every column of ``participants.tsv`` and ``samples.tsv``.

    Raises
    ------
    FileNotFoundError
        If the store or ``participants.tsv`` is missing.
    InputError
        If ids occur twice or do not match.
    """

    def __init__(self, folder: str | Path, norm: str | None = None, *, packed: bool = True) -> None:
        self.folder = Path(folder)
        self.store = TimeSeriesStore(self.folder / STORE_FILE)
        self.info = read_info(self.folder)
        self.name = self.info.name
        self.table = self._join()
        self.scaler = self._load_scaler(norm or self.info.norm)
        self._packed = open_pack(self) if packed else None

    def _join(self) -> pd.DataFrame:
        table = pd.DataFrame({"subject_id": self.store.subjects, "session_id": self.store.sessions})
        participants = read_participants(self.folder)
        unknown = sorted(set(table["subject_id"]) - set(participants["subject_id"]))
        if unknown:
            raise InputError(
                f"{self.folder / 'participants.tsv'} has no row for subject {unknown[0]} of the "
                f"store ({len(unknown)} missing)"
            )
        table = table.merge(participants, on="subject_id", how="left", validate="many_to_one")
        samples_file = self.folder / "samples.tsv"
        if samples_file.is_file():
            samples = _rename_subjects(_read_table(samples_file))
            keys = ["subject_id", "session_id"]
            if samples.duplicated(keys).any():
                row = samples[samples.duplicated(keys)].iloc[0]
                raise InputError(
                    f"{samples_file}: subject {row.subject_id} session {row.session_id} twice"
                )
            shared = [name for name in samples if name in table and name not in keys]
            joined = table.merge(
                samples, on=keys, how="left", validate="one_to_one", suffixes=("", "_scan")
            )
            for name in shared:  # what is known of the scan wins over what is known of the subject
                joined[name] = joined.pop(f"{name}_scan").fillna(joined[name])
            table = joined
        table["split"] = table["subject_id"].map(self._splits(participants))
        if table["split"].isna().any():
            subject = table.loc[table["split"].isna(), "subject_id"].iloc[0]
            raise InputError(f"{self.folder / 'splits.tsv'} has no row for subject {subject}")
        return table

    def _splits(self, participants: pd.DataFrame) -> dict[str, str]:
        path = self.folder / "splits.tsv"
        if not path.is_file():
            renamed = participants.rename(columns={"subject_id": "participant_id"})
            columns = [*self.info.targets, "site"]
            stratify = [name for name in columns if name in renamed.columns]
            write_table(split_subjects(renamed, stratify), path)
        return read_splits(path)

    def _load_scaler(self, norm: str) -> Scaler:
        path = self.folder / SCALING_FILE
        if path.is_file():
            scaler = Scaler.load(path)
            if scaler.norm == norm:
                return scaler
        scaler = Scaler(norm)
        if not scaler.is_fitted:
            scaler.fit(self.store, self.indices("train"), self._sites)
        if norm == self.info.norm and not path.is_file():  # a file with another norm is kept
            scaler.save(path)
        return scaler

    @cached_property
    def atlas(self) -> Atlas:
        """The regions of the series, in the order of their rows.

        From ``atlas.tsv`` in the folder, else the shipped table that the store names, matched by
        region id; for a store of the original, which names neither regions nor atlas, the table of
        the cohort's entry if it has as many regions; else labels alone.

        Raises
        ------
        InputError
            If the table does not have the regions of the store.
        """
        path, ids = self.folder / "atlas.tsv", self.store.roi_ids
        name = self.store.atlas or "unknown"
        if path.is_file():
            table = Atlas.read(path, self.store.atlas or path.stem)
        elif name in shipped_atlases():
            table = Atlas.load(name)
        elif ids is None and self._has_size_of(self.info.atlas):
            table = Atlas.load(self.info.atlas)
        else:
            return Atlas.generic(ids or self.store.n_rois, name)
        if ids is not None:
            return table.select(ids)
        if len(table) != self.store.n_rois:
            raise InputError(
                f"atlas {table.name} has {len(table)} regions, {self.store.path} has "
                f"{self.store.n_rois}: put the right atlas.tsv into {self.folder}"
            )
        return table

    @cached_property
    def _sites(self) -> list[str] | None:
        return self.table["site"].astype(str).tolist() if "site" in self.table else None

    def _has_size_of(self, name: str) -> bool:
        return name in shipped_atlases() and len(Atlas.load(name)) == self.store.n_rois

    def __len__(self) -> int:
        return len(self.store)

    def indices(self, split: str) -> np.ndarray:
        """Return the positions of the scans of one split.

        Raises
        ------
        InputError
            If the split is unknown or empty.
        """
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r}, use one of: {', '.join(SPLITS)}")
        found = np.flatnonzero(self.table["split"] == split)
        if len(found) == 0:
            raise InputError(f"{self.folder}: the {split} split is empty, see splits.tsv")
        return found

    def labels(self, column: str) -> pd.Series:
        """Return one column of the table.

        Raises
        ------
        InputError
            If there is no such column.
        """
        if column not in self.table.columns:
            known = sorted(set(self.table.columns) - {"subject_id", "session_id", "split"})
            raise InputError(
                f"{self.name} has no label column {column!r}{suggest(column, known)}; "
                f"participants.tsv and samples.tsv have: {', '.join(known)}"
            )
        return self.table[column]

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a scaled scan (n_rois, n_timepoints) and its mask of usable regions."""
        if self._packed is not None:
            return self._packed.read(index)
        site = self._sites[index] if self._sites is not None else None
        return self.scaler.transform(*self.store.read(index), site)

    def descriptions(self, families: list[str]) -> pd.Series:
        """Return one text per scan, the families' summaries joined; empty where there is none.

        Raises
        ------
        FileNotFoundError
            If a family's file is missing.
        """
        texts = pd.Series("", index=self.table.index)
        for family in families:
            path = self.folder / DESCRIPTOR_FOLDER / f"{family}_descriptors.csv"
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path} not found: run `fmrilm describe {self.folder} --types {family}`"
                )
            ids = {"subject_id": str, "session_id": str}
            summaries = pd.read_csv(path, dtype=ids).drop_duplicates([*ids])
            joined = self.table[[*ids]].merge(summaries[[*ids, "summary"]], on=[*ids], how="left")
            texts = texts + " " + joined["summary"].fillna("")
        return texts.str.strip()

    def fingerprint(self) -> str:
        """Return a hash of the ids, splits and first series, for the lineage of a run."""
        digest = hashlib.sha256()
        columns = self.table[["subject_id", "session_id", "split"]]
        digest.update(columns.to_csv(index=False).encode())
        digest.update(np.ascontiguousarray(self.store.read(0)[0]).tobytes())
        return digest.hexdigest()[:16]


def read_info(folder: Path) -> CohortInfo:
    """Return what is known of the cohort in ``folder``: its ``cohort.yaml``, else its name's entry.

    The folder layout of the original, ``data/<name>/fmri/TianS3``, is recognised.
    """
    path = folder / "cohort.yaml"
    if path.is_file():
        return read_cohort_yaml(path)
    for part in reversed(folder.resolve().parts):
        if part in COHORTS:
            return COHORTS[part]
    return CohortInfo(folder.name, f"This scan is from the cohort {folder.name}.")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a BIDS table: tabs, ``n/a`` where a value is missing."""
    with replacing(path) as partial:
        table.to_csv(partial, sep="\t", index=False, na_rep="n/a", lineterminator="\n")


def write_info(folder: Path, info: CohortInfo) -> None:
    """Write ``cohort.yaml``, without the keys that say nothing."""
    values = dataclasses.asdict(info)
    kept = {key: value for key, value in values.items() if value not in ([], {}, "")}
    text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)
    with replacing(folder / "cohort.yaml") as partial:
        partial.write_text(text, encoding="utf-8")


def read_participants(folder: Path) -> pd.DataFrame:
    """Return ``participants.tsv`` with the column ``subject_id``, one row per subject."""
    path = folder / "participants.tsv"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} not found: write a table with participant_id, and age, sex, site and labels"
        )
    table = _rename_subjects(_read_table(path))
    twice = table["subject_id"][table["subject_id"].duplicated()]
    if len(twice):
        raise InputError(f"{path}: subject {twice.iloc[0]} occurs twice")
    return table


def _read_table(path: Path) -> pd.DataFrame:
    ids = {name: str for name in ("participant_id", "session_id", "subject_id")}
    return pd.read_csv(path, sep="\t", dtype=ids, na_values=["n/a"])


def _rename_subjects(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns={"participant_id": "subject_id"})


def check_length(
    cohort: Cohort, index: int, n_timepoints: int, num_timestamp: int, length: str = "clip"
) -> None:
    """Raise :class:`InputError` if a scan is too short for the model and not to be padded."""
    if n_timepoints < num_timestamp and length != "pad":
        raise InputError(
            f"{cohort.name}: sample_{index} has {n_timepoints} time points, fewer than "
            f"num_timestamp {num_timestamp}: lower model.vq_model.num_timestamp, or train with "
            "data.length=pad to have the rest masked"
        )
