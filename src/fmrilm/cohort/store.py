"""ROI time series in HDF5, in the layout of the original fMRI-LM.

``time_series/sample_<i>`` float32 (n_rois, n_timepoints); group ``metadata`` with ``subjects`` and
``sessions`` (UTF-8), and our own ``t_r``, ``atlas``, ``roi_ids``, ``source`` and ``checksums``
(:mod:`fmrilm.cohort.checksums`); what `fmrilm prepare` adds is named in
:mod:`fmrilm.preparation.prepare`.
A row that is NaN throughout is a region that is absent from the scan (outside the field of view).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from fmrilm.cohort.foreign import is_ours
from fmrilm.errors import InputError
from fmrilm.hashing import checksum
from fmrilm.tables.hdf5 import find_item, open_hdf5, read_item, read_numbers, read_words

RECORDED = "checksums"  # in ``metadata``: as they were written
LARGEST = 1e15  # spread of a region's values beyond which sums of their squares overflow float32


class TimeSeriesStore:
    """Read access to the series of one cohort.

    One file handle is kept per process, so a store may be handed to worker processes.

    Parameters
    ----------
    path : path
        The HDF5 file.

    Attributes
    ----------
    kept_in : Path or None
        Folder in which checksums are kept; None: in memory.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If the file has another layout, or a subject and session occur twice.

    Examples
    --------
    >>> store = TimeSeriesStore("data/UKB/data_resampled.h5")
    >>> series, roi_mask = store.read(0)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{self.path} not found: make a store with `fmrilm simulate` or `fmrilm demo-data`"
            )
        self.kept_in: Path | None = self.path.parent if is_ours(self.path.parent) else None
        self._file: h5py.File | None = None
        self._censored: np.ndarray | None = None
        self._pid = -1
        handle = self._handle()
        series = find_item(handle, "time_series")
        subjects = self._words("subjects")
        if not isinstance(series, h5py.Group) or subjects is None:
            missing = "metadata/subjects" if isinstance(series, h5py.Group) else "time_series"
            raise InputError(
                f"{self.path} has no {missing!r}: expected time_series/sample_<i> and "
                "metadata/subjects, metadata/sessions"
            )
        self.subjects = subjects
        self.sessions = self._words("sessions") or ["1"] * len(subjects)
        self.t_r = self._read_t_r()
        self.roi_ids = self._words("roi_ids")
        self.atlas = next(iter(self._words("atlas") or []), None)
        self.source = next(iter(self._words("source") or []), None)
        self._check(len(series))

    def _words(self, name: str) -> list[str] | None:
        item = find_item(self._handle(), f"metadata/{name}")
        return read_words(item) if isinstance(item, h5py.Dataset) else None

    def _read_t_r(self) -> float | None:
        """Return the TR, which some write as an array of one value, or as text."""
        words = self._words("t_r")
        if words is None:
            return None
        value = pd.to_numeric(pd.Series(words), errors="coerce").unique()
        if len(value) != 1 or not np.isfinite(value[0]) or value[0] <= 0:
            raise InputError(
                f"{self.path}: metadata/t_r is {', '.join(words[:3])}, expected one number of "
                "seconds: correct it"
            )
        return float(value[0])

    def _check(self, count: int) -> None:
        if not count == len(self.subjects) == len(self.sessions):
            raise InputError(
                f"{self.path} holds {count} series but {len(self.subjects)} subjects and "
                f"{len(self.sessions)} sessions"
            )
        keys = list(zip(self.subjects, self.sessions, strict=True))
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InputError(f"{self.path}: subject {twice[0]} session {twice[1]} occurs twice")
        if count == 0:
            raise InputError(f"{self.path} holds no series")
        for index in (0, count - 1):
            self._sample(index)

    def _handle(self) -> h5py.File:
        if self._file is None or self._pid != os.getpid():
            self._file, self._pid = open_hdf5(self.path), os.getpid()
        return self._file

    def _sample(self, index: int) -> h5py.Dataset:
        """Return the data set of a sample, without its values."""
        item = find_item(self._handle(), f"time_series/sample_{index}")
        if not isinstance(item, h5py.Dataset):
            raise InputError(f"{self.path} has no time_series/sample_{index}")
        if item.ndim != 2 or not item.size:
            raise InputError(
                f"{self.path}: sample_{index} has the shape {item.shape}, not "
                "(n_rois, n_timepoints)"
            )
        return item

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_pid": -1}

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def n_rois(self) -> int:
        """Regions per scan."""
        return int(self._sample(0).shape[0])

    def shape(self, index: int) -> tuple[int, int]:
        """Return (n_rois, n_timepoints) of a sample without reading it."""
        rows, columns = self._sample(index).shape
        return int(rows), int(columns)

    def extra(self, name: str) -> Any:
        """Return another entry of ``metadata``, e.g. ``coverage``; None if there is none."""
        item = find_item(self._handle(), f"metadata/{name}")
        if not isinstance(item, h5py.Dataset):
            return None
        if h5py.check_string_dtype(item.dtype):
            words = np.array(read_words(item), dtype=object)
            return words if item.ndim else words[0]
        return read_item(item)

    def raw(self, index: int) -> np.ndarray:
        """Return the series as they lie in the file, unchecked: absent regions are NaN."""
        return read_numbers(self._sample(index)).astype(np.float32, copy=False)

    def censored(self, index: int) -> np.ndarray:
        """Return which time points of a sample are interpolated over censored volumes, (T,)."""
        if self._censored is None:
            recorded = self.extra("censored")
            self._censored = np.zeros((len(self), 0), bool) if recorded is None else recorded
            if self._censored.ndim != 2 or len(self._censored) != len(self):
                raise InputError(
                    f"{self.path}: metadata/censored has the shape {np.shape(recorded)}, it should "
                    f"be ({len(self)}, time points): prepare the cohort again"
                )
        length = self.shape(index)[1]
        known = self._censored[index, :length].astype(bool)
        return np.pad(known, (0, length - len(known)))

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one scan and which of its regions can be used.

        Parameters
        ----------
        index : int
            Position in the store.

        Returns
        -------
        series : ndarray of float32, shape (n_rois, n_timepoints)
            Absent regions are zero.
        roi_mask : ndarray of bool, shape (n_rois,)
            False where the region is absent or constant.

        Raises
        ------
        InputError
            If the scan holds NaN, Inf or numbers whose squares overflow, or another number of
            regions than the first one.
        """
        series = self.raw(index)
        if series.shape[0] != self.n_rois:
            raise InputError(
                f"{self._name(index)} has {series.shape[0]} regions, sample_0 has {self.n_rois}"
            )
        finite = np.isfinite(series)
        if not finite.all():
            absent = np.isnan(series).all(axis=1)
            if not finite[~absent].all():
                raise InputError(
                    f"{self._name(index)} holds NaN or Inf: clean or drop the scan "
                    "(a region that is NaN throughout counts as absent)"
                )
            series = np.where(absent[:, None], np.float32(0), series)
        spread = np.ptp(series, axis=1)
        if spread.max(initial=0) > LARGEST:
            raise InputError(
                f"{self._name(index)} holds values up to {np.abs(series).max():.0e}: no signal is "
                "that large; prepare the scan again, or drop it"
            )
        return series, spread > 0

    def _name(self, index: int) -> str:
        return (
            f"{self.path}: sample_{index} (subject {self.subjects[index]}, "
            f"session {self.sessions[index]})"
        )


def write_store(
    path: str | Path,
    samples: Iterable[tuple[str, str, np.ndarray]],
    *,
    t_r: float,
    atlas: str,
    roi_ids: Sequence[str],
    source: str,
    extra: Mapping[str, Any] | None = None,
) -> int:
    """Write a store in one go and return the number of scans in it.

    The file appears under its name only when it is complete.

    Parameters
    ----------
    path : path
        The HDF5 file to make.
    samples : iterable of (subject, session, series)
        ``series`` has the shape (n_rois, n_timepoints).
    t_r : float
        Seconds between two time points.
    atlas : str
        Name of the parcellation.
    roi_ids : sequence of str
        One label per region, in the order of the rows.
    source : str
        Where the series come from, in words.
    extra : mapping of str to array, list of str or str, optional
        More entries of ``metadata``; read after the last sample, so ``samples`` may fill them.

    Raises
    ------
    InputError
        If a subject and session come twice, or a series has another number of regions.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    subjects: list[str] = []
    sessions: list[str] = []
    checksums: list[str] = []
    seen: set[tuple[str, str]] = set()
    # Through a file of Python's: HDF5 by itself ends the process (SIGSEGV) on a full disk.
    with partial.open("w+b") as file, h5py.File(file, "w") as handle:
        group = handle.create_group("time_series")
        for subject, session, series in samples:
            if (subject, session) in seen:
                raise InputError(f"subject {subject} session {session} occurs twice")
            if series.shape[0] != len(roi_ids):
                raise InputError(
                    f"subject {subject} session {session} has {series.shape[0]} regions, "
                    f"expected {len(roi_ids)}"
                )
            seen.add((subject, session))
            values = np.ascontiguousarray(series, dtype=np.float32)
            group.create_dataset(f"sample_{len(subjects)}", data=values)
            checksums.append(checksum(values))
            subjects.append(subject)
            sessions.append(session)
        meta = handle.create_group("metadata")
        text = h5py.string_dtype("utf-8")
        meta.create_dataset("subjects", data=subjects, dtype=text)
        meta.create_dataset("sessions", data=sessions, dtype=text)
        meta.create_dataset(RECORDED, data=checksums, dtype=text)
        meta.create_dataset("roi_ids", data=[str(roi) for roi in roi_ids], dtype=text)
        for name, value in (("atlas", atlas), ("source", source)):
            meta.create_dataset(name, data=value, dtype=text)
        meta.create_dataset("t_r", data=float(t_r))
        for name, value in (extra or {}).items():
            values = np.asarray(value)
            if values.dtype.kind == "U":
                meta.create_dataset(name, data=value, dtype=text)
            else:
                meta.create_dataset(name, data=values)
    os.replace(partial, path)
    return len(subjects)
