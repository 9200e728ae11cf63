"""``fmrilm describe``: the text descriptors of a cohort, fitted on its training scans only.

Writes ``descriptors_rewritten/<family>_descriptors.csv`` (subject_id, session_id, every measure,
``<measure>_z``, ``summary``) and, beside it, ``<family>_reference.npz`` (what was learned from the
training scans) and ``<family>_provenance.jsonl`` (the facts behind every sentence).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmrilm.data.cohort import DESCRIPTOR_FOLDER, STORE_FILE, Cohort
from fmrilm.data.progress import track
from fmrilm.descriptors import COUNTS, DESCRIPTORS, Descriptor
from fmrilm.errors import InputError

CHUNK = 64  # scans per job: the unit of parallel work and of resuming


class Scans(Sequence[np.ndarray]):
    """Some scans of a cohort as a sequence that reads each one when it is asked for.

    Regions that cannot be used are NaN. Cheap to pickle, so worker processes read for themselves.

    Parameters
    ----------
    cohort : Cohort
    indices : sequence of int
        Positions in the store.
    """

    def __init__(self, cohort: Cohort, indices: Iterable[int]) -> None:
        self.cohort = cohort
        self.indices = [int(index) for index in indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, slice):
            return Scans(self.cohort, self.indices[item])
        series, usable = self.cohort.read(self.indices[item])
        return np.where(usable[:, None], series, np.float32(np.nan))


def describe(
    folder: Path | None = None,
    *,
    data: Path | None = None,
    types: str = "fc",
    jobs: int = 0,
    seed: int = 0,
    paraphrases: int = 1,
    refresh: bool = False,
) -> None:
    """Write the text descriptors of a cohort.

    Templates and the distribution behind every z are learned from the training scans only. A run
    that was interrupted goes on where it stopped; a family that is complete is not made again.

    Parameters
    ----------
    folder : path
        The cohort's folder, with data_resampled.h5 and participants.tsv.
    data : path
        The same, as an option.
    types : str
        Families, separated by commas.
    jobs : int
        Worker processes; 0 takes one per core.
    seed : int
        Of the wording, and of the families that need one.
    paraphrases : int
        Wordings per scan: `summary`, then `summary_2` and so on.
    refresh : bool
        Make everything again, also what is complete.

    Raises
    ------
    FileNotFoundError
        If the cohort's files are missing.
    InputError
        If a family is unknown or the training split is too small.

    Examples
    --------
    fmrilm describe data/UKB --types fc,gradient,graph,ica
    """
    place = folder or data
    if place is None:
        raise InputError("say which cohort: fmrilm describe FOLDER --types fc")
    if paraphrases < 1 or jobs < 0:
        raise InputError("--paraphrases must be at least 1 and --jobs at least 0")
    families = list(dict.fromkeys(name.strip() for name in types.split(",") if name.strip()))
    if not families:
        raise InputError(f"--types is empty; known families: {', '.join(sorted(DESCRIPTORS))}")
    classes = [DESCRIPTORS[name] for name in families]
    cohort = Cohort(place)
    for family in classes:
        _describe_family(cohort, family, jobs or os.cpu_count() or 1, seed, paraphrases, refresh)


def _describe_family(
    cohort: Cohort,
    family: type[Descriptor],
    jobs: int,
    seed: int,
    paraphrases: int,
    refresh: bool,
) -> None:
    from rich.console import Console

    atlas = cohort.atlas
    if not atlas.has_networks:
        raise InputError(
            f"the atlas {atlas.name} of {cohort.folder} has no networks: write an atlas.tsv with "
            "the columns label, name and network there"
        )
    descriptor = family(atlas.networks, t_r=cohort.store.t_r or 2.0, names=atlas.names)
    output = cohort.folder / DESCRIPTOR_FOLDER
    key = _key(cohort, descriptor, seed)
    table_path = output / f"{family.family}_descriptors.csv"
    reference_path = output / f"{family.family}_reference.npz"
    console = Console()
    if not refresh and _is_complete(table_path, reference_path, key, paraphrases):
        console.print(f"{family.family}: complete, nothing to do ({table_path})")
        return
    parts = output / f".{family.family}_parts_{key}"
    if refresh:
        shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True, exist_ok=True)
    _fit_template(cohort, descriptor, parts / "template.npz")
    measures = _measure(cohort, descriptor, parts, jobs)
    descriptor.fit_distribution(measures[(cohort.table["split"] == "train").to_numpy()])
    _write(cohort, descriptor, measures, seed, paraphrases, table_path)
    state = {name: np.asarray(value) for name, value in descriptor.state().items()}
    _save(reference_path, {**state, "key": np.asarray(key)})
    shutil.rmtree(parts)
    short = int((measures[descriptor.measure_names()].isna().all(axis=1)).sum())
    note = f", {short} with too little data" if short else ""
    console.print(f"{family.family}: {len(measures)} scans{note} -> {table_path}")


def _key(cohort: Cohort, descriptor: Descriptor, seed: int) -> str:
    """Return a hash of everything the table depends on."""
    status = (cohort.folder / STORE_FILE).stat()
    facts = [_code(), cohort.fingerprint(), cohort.scaler.norm, status.st_size, seed]
    facts += [status.st_mtime_ns, descriptor.family, repr(descriptor.get_params())]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def _code() -> str:
    """Return a hash of the package that measures and words: a table of older code is remade."""
    digest = hashlib.sha256()
    for file in sorted(files("fmrilm.descriptors").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".py"):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _is_complete(table: Path, reference: Path, key: str, paraphrases: int) -> bool:
    if not (table.is_file() and reference.is_file()):
        return False
    with np.load(reference, allow_pickle=False) as state:
        if str(state["key"]) != key:
            return False
    columns = pd.read_csv(table, nrows=0).columns
    return sum(name.startswith("summary") for name in columns) == paraphrases


def _fit_template(cohort: Cohort, descriptor: Descriptor, path: Path) -> None:
    if path.is_file():
        with np.load(path, allow_pickle=False) as state:
            descriptor.set_state(dict(state))
        return
    descriptor.fit_template(Scans(cohort, cohort.indices("train")))
    _save(path, descriptor.state())


def _measure(cohort: Cohort, descriptor: Descriptor, parts: Path, jobs: int) -> pd.DataFrame:
    """Return the measures of all scans, in the order of the store."""
    chunks = [range(i, min(i + CHUNK, len(cohort))) for i in range(0, len(cohort), CHUNK)]
    paths = {chunk: parts / f"{chunk.start}.npy" for chunk in chunks}
    done = _run(cohort, descriptor, paths, jobs)
    for _ in track(done, f"describing {descriptor.family}", len(cohort)):
        pass
    values = np.concatenate([np.load(paths[chunk]) for chunk in chunks])
    table = pd.DataFrame(values, columns=descriptor.get_feature_names_out())
    table = table.astype(dict.fromkeys(COUNTS, int))
    table.index = pd.Index(cohort.table["subject_id"] + "|" + cohort.table["session_id"])
    return table


def _run(
    cohort: Cohort, descriptor: Descriptor, paths: dict[range, Path], jobs: int
) -> Iterator[None]:
    """Measure the chunks that have no file yet; yield once per scan that is done."""
    from joblib import Parallel, delayed

    waiting = [chunk for chunk, path in paths.items() if not path.is_file()]
    yield from [None] * (len(cohort) - sum(map(len, waiting)))
    workers = Parallel(n_jobs=min(jobs, max(1, len(waiting))), return_as="generator_unordered")
    tasks = (delayed(_measure_chunk)(Scans(cohort, c), descriptor, paths[c]) for c in waiting)
    for count in workers(tasks):
        yield from [None] * count


def _measure_chunk(scans: Scans, descriptor: Descriptor, path: Path) -> int:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # the workers are the parallelism
        values = np.stack([descriptor.measure_scan(series) for series in scans])
    partial = path.with_suffix(".partial")
    with partial.open("wb") as handle:
        np.save(handle, values)
    os.replace(partial, path)
    return len(scans)


def _write(
    cohort: Cohort,
    descriptor: Descriptor,
    measures: pd.DataFrame,
    seed: int,
    paraphrases: int,
    path: Path,
) -> None:
    told = descriptor.explain(measures, seed=seed)
    columns = {"summary": [" ".join(s.text for s in sentences) for sentences in told]}
    for n in range(2, paraphrases + 1):
        columns[f"summary_{n}"] = descriptor.describe(measures, seed=seed + n - 1)
    ids = cohort.table[["subject_id", "session_id"]].set_axis(measures.index)
    texts = pd.DataFrame(columns, index=measures.index)
    table = pd.concat([ids, measures, descriptor.z_scores(measures), texts], axis=1)
    partial = path.with_suffix(".partial")
    table.to_csv(partial, index=False)
    os.replace(partial, path)
    lines = path.with_name(f"{descriptor.family}_provenance.jsonl")
    with lines.open("w", encoding="utf-8") as handle:
        for (subject, session), sentences in zip(ids.itertuples(index=False), told, strict=True):
            entry = {"subject_id": subject, "session_id": session}
            facts = [{"text": s.text, "facts": [vars(f) for f in s.facts]} for s in sentences]
            handle.write(json.dumps({**entry, "sentences": facts}) + "\n")


def _save(path: Path, state: dict[str, np.ndarray]) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("wb") as handle:
        np.savez(handle, **state)  # type: ignore[arg-type]
    os.replace(partial, path)
