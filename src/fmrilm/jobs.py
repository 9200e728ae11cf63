"""The same list of jobs on one core, on many, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fmrilm.errors import InputError
from fmrilm.readers import reason

_HINT = "pip install 'fmrilm[cluster]'"


@contextmanager
def workers(jobs: int, scheduler: str | None = None, slurm: str | None = None) -> Iterator[Any]:
    """Yield a function that maps another over a list, results in the order they finish.

    Parameters
    ----------
    jobs : int
        Processes of this machine, or jobs of Slurm; 1: no other process.
    scheduler : str, optional
        Address of a running Dask scheduler, e.g. ``tcp://host:8786``.
    slurm : str, optional
        Options of ``dask_jobqueue.SLURMCluster`` as ``key=value,key=value``, e.g.
        ``queue=cpu,cores=1,memory=8GB,walltime=02:00:00``.

    Raises
    ------
    InputError
        If Dask is not installed, or the scheduler cannot be reached.
    """
    if scheduler is not None and slurm is not None:
        raise InputError("give --scheduler or --slurm, not both")
    if scheduler is None and slurm is None:
        yield _on_this_machine(jobs)
        return
    try:
        from dask.distributed import Client
    except ImportError:
        raise InputError(f"a cluster needs Dask: {_HINT}") from None
    if slurm is not None:
        with _slurm_cluster(slurm, jobs) as cluster, Client(cluster) as client:
            yield _on_dask(client)
        return
    try:
        client = Client(scheduler, timeout=20)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {scheduler}: {error}") from None
    with client:
        yield _on_dask(client)


def _on_this_machine(jobs: int) -> Callable[..., Iterator[Any]]:
    def run(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        from joblib import Parallel, delayed

        if jobs == 1:
            yield from map(function, items)
            return
        parallel = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        yield from parallel(delayed(function)(item) for item in items)

    return run


def _on_dask(client: Any) -> Callable[..., Iterator[Any]]:
    def run(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        from asyncio import CancelledError

        from dask.distributed import as_completed
        from distributed.client import FutureCancelledError, FuturesCancelledError
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker

        lost = (CommClosedError, CancelledError, FutureCancelledError, FuturesCancelledError,
                KilledWorker, OSError)  # fmt: skip
        futures = client.map(function, items, pure=False, retries=2)  # a lost worker is survived
        done = 0
        try:
            for future in as_completed(futures):
                result = future.result()
                done += 1
                yield result
                future.release()
        except lost as error:
            raise InputError(
                f"lost the Dask scheduler or its workers ({reason(error)}); {done} of {len(items)} "
                "done are kept: start the cluster again and give the same command"
            ) from None

    return run


def _slurm_cluster(options: str, jobs: int) -> Any:
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise InputError(f"Slurm needs dask-jobqueue: {_HINT}") from None
    pairs = [pair.partition("=") for pair in options.split(",") if pair]
    if any(not value for _, _, value in pairs):
        raise InputError(f"--slurm is key=value,key=value, got {options!r}")
    values: dict[str, Any] = {key: int(v) if v.isdigit() else v for key, _, v in pairs}
    cluster = SLURMCluster(**{"cores": 1, "memory": "8GB", **values})
    cluster.scale(jobs=jobs)
    return cluster
