"""``samples.tsv``: the mean FD of every sample, beside labels that a user wrote, which stay."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from fmrilm.cohort.labels import write_table
from fmrilm.cohort.store import TimeSeriesStore
from fmrilm.readers import read_table

_KEYS = ["participant_id", "session_id"]
_WINDOW = re.compile(r"_win-\d+$")

Key = tuple[str, str]  # subject, session


def sample_files(store: Path) -> dict[Key, Key]:
    """Return from which file (its name, and the window of it) each sample of a store was made."""
    if not store.is_file():
        return {}
    opened = TimeSeriesStore(store)
    facts = opened.extra("facts")
    if facts is None:
        return {}
    paths = [json.loads(str(text))["path"] for text in facts]
    keys = zip(opened.subjects, opened.sessions, strict=True)
    return {key: _file(path, key[1]) for key, path in zip(keys, paths, strict=True)}


def _file(path: str, session: str) -> Key:
    window = _WINDOW.search(session)
    return Path(path).name, window[0] if window else ""


def write_samples(scans: pd.DataFrame, folder: Path, before: Mapping[Key, Key]) -> int:
    """Write the table and return how many of its rows belong to no sample.

    A label stays with the file it was written for, whatever the file's session is called now. A
    row whose scan is gone (it failed, or was moved away) stays at the end.

    Parameters
    ----------
    scans : DataFrame
        ``participant_id``, ``session_id``, ``path`` and ``mean_fd`` of every sample.
    folder : Path
    before : mapping
        What :func:`sample_files` said of the store that is replaced.
    """
    path = folder / "samples.tsv"
    table, left = scans[[*_KEYS, "mean_fd"]], 0
    if path.is_file():
        ids = dict.fromkeys(_KEYS, str)
        written = read_table(path, needed=_KEYS, dtype=ids, na_values=["n/a"])
        written = written.drop(columns="mean_fd", errors="ignore")
        labels = [name for name in written if name not in _KEYS]
        written = _renamed(written[written[labels].notna().any(axis=1)], scans, before)
        joined = table.merge(written, on=_KEYS, how="outer", indicator="_from")
        here = joined["_from"] != "right_only"
        lost = joined[~here]
        left = len(lost)
        own = table[_KEYS].merge(joined, on=_KEYS, how="left")  # in the order of the store
        table = pd.concat([own, lost] if left else [own]).drop(columns="_from")
    write_table(table, path)
    return left


def _renamed(written: pd.DataFrame, scans: pd.DataFrame, before: Mapping[Key, Key]) -> pd.DataFrame:
    """Return the user's rows under the sessions that their files have now."""
    now = list(scans[_KEYS].itertuples(index=False, name=None))
    files = {_file(path, key[1]): key for path, key in zip(scans["path"], now, strict=True)}
    taken = {*now} & {*written[_KEYS].itertuples(index=False, name=None)}
    sessions = []
    for key in written[_KEYS].itertuples(index=False, name=None):
        new = key
        if key not in taken:
            new = files.get(before.get(key, ("", "")), key)
            if new == key or new[0] != key[0]:
                new = _longer(key, now)
            if new in taken:
                new = key
            taken.add(new)
        sessions.append(new[1])
    return written.assign(session_id=sessions)


def _longer(key: Key, now: list[Key]) -> Key:
    """Return the only sample whose session holds all words of an older, shorter one."""
    words = {*key[1].split("_")} - {"1"}
    close = [new for new in now if new[0] == key[0] and words <= {*new[1].split("_")}]
    return close[0] if len(close) == 1 else key
