"""A cohort folder: the store, its participants, splits, scaling and descriptors, joined by id."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from fmrilm.atlases.atlas import Atlas, shipped_atlases
from fmrilm.cohort.checksums import read_checksums
from fmrilm.cohort.foreign import is_original, is_ours
from fmrilm.cohort.labels import join_labels, read_participants, write_table
from fmrilm.cohort.original import info_from_path, read_metadata, read_scaling
from fmrilm.cohort.packed import PACK, PackedSeries, open_packed
from fmrilm.cohort.scaling import Scaler
from fmrilm.cohort.splits import EVERYONE, SPLITS, deal_folds, read_splits, split_subjects
from fmrilm.cohort.store import TimeSeriesStore
from fmrilm.descriptors.tables import read_table
from fmrilm.errors import InputError
from fmrilm.files import replacing
from fmrilm.hashing import digest
from fmrilm.readers import read_file
from fmrilm.registry import suggest
from fmrilm.studies.known import CohortInfo, read_cohort_yaml

STORE_FILE = "data_resampled.h5"
SCALING_FILE = "normalization_params.npz"
DESCRIPTOR_FOLDER = "descriptors_rewritten"
_IDS = ("subject_id", "session_id", "split")


class Cohort:
    """One cohort on disk.

    Parameters
    ----------
    folder : path
        Holds ``data_resampled.h5``; beside it ``participants.tsv`` (BIDS), and where there are
        any ``cohort.yaml``, ``samples.tsv`` (labels of single scans or windows), ``splits.tsv``,
        ``descriptors_rewritten/<family>_descriptors.csv``. Or a data folder of the original
        (:mod:`fmrilm.cohort.original`), as it lies.
    norm : str, optional
        Scaling; None: what ``cohort.yaml`` says.
    packed : bool
        Read from the copy that `fmrilm pack` made, if there is one with this scaling.
    state : path, optional
        Folder for our own files (splits, checksums, scaling, ...) if the cohort's is not ours to
        write to; None: nothing is kept, and what can be worked out is, again each time.

    Attributes
    ----------
    state : Path or None
        Where our own files go: the folder itself if it is ours.
    notes : list of str
        What is to be said wherever the cohort is used.
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

    def __init__(
        self,
        folder: str | Path,
        norm: str | None = None,
        *,
        packed: bool = True,
        state: str | Path | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.store = TimeSeriesStore(self.folder / STORE_FILE)
        given = None if state is None else Path(state)
        self.state: Path | None = self.folder if is_ours(self.folder) else given
        self.store.kept_in = self.state
        self.notes: list[str] = []
        self.info = read_info(self.folder)
        self.name = self.info.name
        self.table = self._join()
        self.scaler = self._load_scaler(norm or self.info.norm)
        self._packed = self._open_packed() if packed else None

    def _join(self) -> pd.DataFrame:
        if is_original(self.folder):
            table = read_metadata(self.folder, self.store.subjects, self.store.sessions)
            participants = table.drop_duplicates("subject_id")
        else:
            participants = read_participants(self.folder)
            table = join_labels(self.folder, self.store, participants)
        table["split"] = table["subject_id"].map(self._splits(participants))
        if table["split"].isna().any():
            subject = table.loc[table["split"].isna(), "subject_id"].iloc[0]
            raise InputError(f"{self.place('splits.tsv')} has no row for subject {subject}")
        return table

    def _open_packed(self) -> PackedSeries | None:
        def scans() -> str:
            return self.fingerprints()["scans"]

        return open_packed(self.place(PACK), self.store.path, scans, self.scaling_fingerprint)

    def place(self, name: str) -> Path:
        """Return where one of our files is: in the state folder, or else in the cohort's."""
        ours = (self.state or self.folder) / name
        return ours if ours.exists() else self.folder / name

    def writable(self, what: str) -> Path:
        """Return the folder that our files go to.

        Raises
        ------
        InputError
            If there is none: the cohort's folder is not ours to write to.
        """
        if self.state is None:
            raise InputError(
                f"{what} of {self.folder} cannot be kept there, it is not ours to write to: name a "
                "folder with --state"
            )
        self.state.mkdir(parents=True, exist_ok=True)
        return self.state

    def _splits(self, participants: pd.DataFrame) -> dict[str, str]:
        path = self.place("splits.tsv")
        if path.is_file():
            return read_splits(path)
        renamed = participants.rename(columns={"subject_id": "participant_id"})
        columns = [*self.info.targets, "site"]
        made = split_subjects(renamed, [name for name in columns if name in renamed.columns])
        if self.state is not None:
            write_table(made, self.writable("splits") / "splits.tsv")
        return dict(zip(made["participant_id"], made["split"], strict=True))

    def _load_scaler(self, norm: str) -> Scaler:
        scaler = Scaler(norm)
        theirs = self.folder / SCALING_FILE
        if (
            is_original(self.folder)
            and scaler.is_global
            and not scaler.by_site
            and theirs.is_file()
        ):
            scaler, note = read_scaling(self.folder, norm, self.store, self.indices("train"))
            self.notes.append(note)
            return scaler
        path = (self.state or self.folder) / SCALING_FILE
        if path.is_file() and not is_original(path.parent):
            known = Scaler.load(path)
            if known.norm == norm:
                return known
        if not scaler.is_fitted:
            scaler.fit(self.store, self.indices("train"), self._sites)
        # a file with another norm is kept
        if norm == self.info.norm and self.state is not None and not path.is_file():
            scaler.save(self.writable("scaling") / SCALING_FILE)
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
        path, ids = self.place("atlas.tsv"), self.store.roi_ids
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
        """Return the positions of the scans of one split, or of ``all`` scans.

        Raises
        ------
        InputError
            If the split is unknown or empty.
        """
        if split == EVERYONE:
            return np.arange(len(self))
        if split not in SPLITS:
            known = ", ".join((*SPLITS, EVERYONE))
            raise InputError(f"unknown split {split!r}, use one of: {known}")
        found = np.flatnonzero(self.table["split"] == split)
        if len(found) == 0:
            raise InputError(f"{self.folder}: the {split} split is empty, see splits.tsv")
        return found

    def refolded(self, count: int, rows: np.ndarray, column: str) -> list[Cohort]:
        """Return copies whose test splits are folds of the people of ``rows``, each in one of them.

        The rest of each copy is train and val. For predictors that are to be fitted on some of a
        cohort and asked about everybody.

        Parameters
        ----------
        count : int
            Number of folds.
        rows : ndarray of int
            Scans that are asked about; other people are in no split.
        column : str
            Label that is spread evenly over the folds; families stay together.
        """
        people = self.table.iloc[rows].drop_duplicates("subject_id")
        people = people.rename(columns={"subject_id": "participant_id"})
        dealt = deal_folds(people, count, [column])
        fold_of = self.table["subject_id"].map(
            dict(zip(dealt["participant_id"], dealt["fold"], strict=True))
        )
        made = []
        for fold in range(count):
            cohort = copy.copy(self)
            splits = np.where(fold_of == fold, "test", "train")
            splits = np.where(fold_of == (fold + 1) % count, "val", splits)
            cohort.table = self.table.assign(split=np.where(fold_of.isna(), "", splits))
            made.append(cohort)
        return made

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
                f"its tables have: {', '.join(known)}"
            )
        return self.table[column]

    def facts(self, index: int, columns: Sequence[str]) -> dict[str, Any]:
        """Return what a prompt may tell about the participant of a scan; missing values left out.

        Raises
        ------
        InputError
            If there is no such column.
        """
        values = {name: self.labels(name)[index] for name in columns}
        return {name: value for name, value in values.items() if not pd.isna(value)}

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a scaled scan (n_rois, n_timepoints) and its mask of usable regions."""
        if self._packed is not None:
            return self._packed.read(index)
        site = self._sites[index] if self._sites is not None else None
        return self.scaler.transform(*self.store.read(index), site)

    def censored(self, index: int) -> np.ndarray:
        """Return which time points of a scan are interpolated over censored volumes, (T,)."""
        return self.store.censored(index)

    def descriptions(self, families: list[str]) -> pd.Series:
        """Return one text per scan, the families' summaries joined; empty where there is none.

        Raises
        ------
        FileNotFoundError
            If a family's file is missing.
        """
        texts = pd.Series("", index=self.table.index)
        for family in families:
            path = self.place(f"{DESCRIPTOR_FOLDER}/{family}_descriptors.csv")
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path} not found: run `fmrilm describe {self.folder} --types {family}`"
                )
            ids = {"subject_id": str, "session_id": str}
            summaries = read_table(path).drop_duplicates([*ids])
            joined = self.table[[*ids]].merge(summaries[[*ids, "summary"]], on=[*ids], how="left")
            texts = texts + " " + joined["summary"].fillna("")
        return texts.str.strip()

    def fingerprints(self) -> dict[str, Any]:
        """Return hashes of what the cohort holds now, for lineages and the keys of caches.

        Returns
        -------
        dict
            ``scans`` (ids and every series), ``splits`` and ``scaling`` as str; ``labels`` by
            column of the table and ``descriptors`` by family as dict of str.
        """
        table = self.table
        people = table[["subject_id", "session_id"]].to_csv(index=False)
        columns = [name for name in table if name not in _IDS]
        names = {
            path.name
            for place in {self.folder, self.state or self.folder}
            for path in (place / DESCRIPTOR_FOLDER).glob("*_descriptors.csv")
        }
        described = [self.place(f"{DESCRIPTOR_FOLDER}/{name}") for name in sorted(names)]
        return {
            "scans": digest(people, *read_checksums(self.store), *self._censoring()),
            "splits": digest(table[[*_IDS]].to_csv(index=False)),
            "scaling": self.scaling_fingerprint(),
            "labels": {name: digest(table[name].to_csv(index=False)) for name in columns},
            "descriptors": {
                path.name.removesuffix("_descriptors.csv"): digest(read_file(path))
                for path in described
            },
        }

    def _censoring(self) -> list[str]:
        """Return which time points are masked, as words; none if there are none."""
        masks = [self.censored(index) for index in range(len(self))]
        return [mask.tobytes().hex() for mask in masks] if any(m.any() for m in masks) else []

    def scaling_fingerprint(self) -> str:
        """Return a hash of what turns the series of the store into those that are read."""
        sites = (self._sites or []) if self.scaler.by_site else []
        return digest(json.dumps(self.scaler.to_dict(), sort_keys=True), *sites)

    def fingerprint(self) -> str:
        """Return one hash of all scans and of their splits."""
        found = self.fingerprints()
        return digest(found["scans"], found["splits"])


def read_info(folder: Path) -> CohortInfo:
    """Return what is known of the cohort in ``folder``: its ``cohort.yaml``, else its path's.

    The folder layout of the original, ``data/<name>/fmri/TianS3``, is recognised; folders further
    up never name a cohort.
    """
    path = folder / "cohort.yaml"
    if path.is_file():
        return read_cohort_yaml(path)
    if (named := info_from_path(folder)) is not None:
        return named
    name = folder.resolve().name
    return CohortInfo(name, f"This scan is from the cohort {name}.")


def write_info(folder: Path, info: CohortInfo) -> None:
    """Write ``cohort.yaml``, without the keys that say nothing."""
    values = dataclasses.asdict(info)
    kept = {key: value for key, value in values.items() if value not in ([], {}, "")}
    text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)
    with replacing(folder / "cohort.yaml") as partial:
        partial.write_text(text, encoding="utf-8")


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
