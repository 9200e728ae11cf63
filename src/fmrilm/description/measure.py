"""Measure the scans of a cohort in parallel, chunk by chunk, each chunk a file to resume from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmrilm.cohort.cohort import Cohort
from fmrilm.descriptors import COUNTS, Descriptor
from fmrilm.descriptors.measures.scans import mask_censored
from fmrilm.files import write_array, write_arrays
from fmrilm.progress import track
from fmrilm.readers import read_arrays, reading

CHUNK = 16  # scans per job: the unit of parallel work and of resuming


class Scans(Sequence[np.ndarray]):
    """Some scans of a cohort as a sequence that reads each one when it is asked for.

    Regions that cannot be used are NaN, censored time points are masked columns of a masked array.
    Cheap to pickle, so worker processes read for themselves.

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
        series = np.where(usable[:, None], series, np.float32(np.nan))
        return mask_censored(series, self.cohort.censored(self.indices[item]))


_REMEDY = "delete it, it is made again"


def fit_template(cohort: Cohort, descriptor: Descriptor, path: Path) -> None:
    """Learn the family's template from the training scans, or take it from an earlier run."""
    if path.is_file():
        with reading(path, _REMEDY):
            descriptor.set_state(read_arrays(path))
        return
    descriptor.fit_template(Scans(cohort, cohort.indices("train")))
    save_arrays(path, descriptor.state())


def measure_cohort(cohort: Cohort, descriptor: Descriptor, parts: Path, jobs: int) -> pd.DataFrame:
    """Return the measures of all scans, in the order of the store."""
    chunks = [range(i, min(i + CHUNK, len(cohort))) for i in range(0, len(cohort), CHUNK)]
    paths = {chunk: parts / f"{chunk.start}.npy" for chunk in chunks}
    done = _run(cohort, descriptor, paths, jobs)
    for _ in track(done, f"describing {descriptor.family}", len(cohort)):
        pass
    with reading(parts, _REMEDY):
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
    write_array(path, values)
    return len(scans)


def save_arrays(path: Path, state: dict[str, np.ndarray]) -> None:
    """Write arrays as ``.npz``; the file appears when it is complete."""
    write_arrays(path, state)
