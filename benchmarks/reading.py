"""How long it takes to read one sample, from every kind of store and in the naive way.

    python benchmarks/reading.py

Prints a table and exits with 1 if a packed or cached store is not at least 20 times as fast as the
naive way, or slower than twice numpy.memmap.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from fmrilm.cohort.cohort import STORE_FILE, Cohort
from fmrilm.cohort.pack import pack
from fmrilm.datasets.synthetic.cohort import simulate
from fmrilm.hashing import checksum
from fmrilm.training.data.dataset import ScanDataset

SAMPLES, REGIONS, TIMEPOINTS = 200, 450, 160
REPEATS = 5


def naive(path: Path, index: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Open the file, read one gzip dataset, build a dense mask of all pairs of tokens."""
    with h5py.File(path, "r") as handle:
        series = handle[f"time_series/sample_{index}"][()]
    step = np.arange(tokens) // REGIONS
    return series, (step[:, None] >= step[None]).astype(np.float32)


def measure(read: Callable[[int], object], order: np.ndarray) -> float:
    """Return the median over repeats of the mean seconds per read, in random order."""
    read(int(order[0]))
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for index in order:
            read(int(index))
        times.append((time.perf_counter() - start) / len(order))
    return float(np.median(times))


def compress(source: Path, target: Path) -> None:
    """Write the store with every series compressed by gzip, as the original's are."""
    with h5py.File(source, "r") as old, h5py.File(target, "w") as new:
        old.copy("metadata", new)
        group = new.create_group("time_series")
        for name, series in old["time_series"].items():
            group.create_dataset(name, data=series[()], compression="gzip")


def main() -> int:
    """Run the benchmark in a temporary folder and return the exit code."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = simulate(temporary, subjects=SAMPLES - 20, timepoints=TIMEPOINTS)
        plain = Cohort(folder)
        count = len(plain)
        order = np.random.default_rng(0).permutation(count)[:100]
        gzipped = folder / "gzip.h5"
        compress(folder / STORE_FILE, gzipped)
        stacked = np.stack([plain.read(i)[0] for i in range(count)])
        np.save(folder / "stacked.npy", stacked)
        mapped = np.load(folder / "stacked.npy", mmap_mode="r")
        handle = h5py.File(gzipped, "r")
        pack(str(folder))
        packed = Cohort(folder)
        cached = ScanDataset([packed], [(0, i) for i in range(count)], TIMEPOINTS, cache=True)
        for position in range(count):
            cached[position]
        from fmrilm.cohort.store import TimeSeriesStore

        gzip_store = TimeSeriesStore(gzipped)
        times = {
            "naive, 450 tokens": measure(lambda i: naive(gzipped, i, 450), order),
            "naive, 2,250 tokens": measure(lambda i: naive(gzipped, i, 2250), order),
            "gzip: decompression alone": measure(
                lambda i: handle[f"time_series/sample_{i}"][()], order
            ),
            "gzip: TimeSeriesStore.read": measure(gzip_store.read, order),
            "plain: Cohort.read, scaled": measure(plain.read, order),
            "numpy.memmap, copied": measure(lambda i: np.array(mapped[i]), order),
            "packed: Cohort.read, scaled": measure(packed.read, order),
            "cached: ScanDataset item": measure(cached.__getitem__, order),
            "checksum, when written": measure(lambda i: checksum(stacked[i]), order),
            "checksum, read from the store": measure(lambda i: checksum(plain.store.raw(i)), order),
        }
    slow, memmap = times["naive, 450 tokens"], times["numpy.memmap, copied"]
    print(f"{count} samples of {REGIONS} x {TIMEPOINTS}, 100 random reads, median of {REPEATS}\n")
    print(f"{'way':30} {'time':>10} {'x naive':>9} {'x memmap':>9}")
    for name, seconds in times.items():
        print(f"{name:30} {seconds * 1e6:7.0f} us {slow / seconds:8.1f}x {seconds / memmap:8.2f}x")
    packed_time, cached_time = (
        times["packed: Cohort.read, scaled"],
        times["cached: ScanDataset item"],
    )
    checks = {
        "packed is at least 20 times as fast as naive": slow / packed_time >= 20,
        "cached is at least 20 times as fast as naive": slow / cached_time >= 20,
        "packed takes at most twice as long as numpy.memmap": packed_time <= 2 * memmap,
        "the gzip store takes at most 1.5 times its decompression": (
            times["gzip: TimeSeriesStore.read"] <= 1.5 * times["gzip: decompression alone"]
        ),
    }
    for name, is_met in checks.items():
        print(("ok    " if is_met else "FAILED") + " " + name)
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
