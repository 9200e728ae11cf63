"""Measure the linear baselines on synthetic connectivity, made scan by scan, at several sizes.

    OMP_NUM_THREADS=2 python benchmarks/scale/baselines.py 450 7000 14000 28000

First the number of regions, then of scans. One process per size; a Markdown table. ``memory`` is
the peak of what the process holds itself; pages of the file that features lie in, which the system
drops when it needs room, are counted apart. TFLOP/s of a float32 matrix product are given beside.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from fmrilm.evaluation.baselines.baselines import fit_linear, project
from fmrilm.evaluation.baselines.storage import allocate

LENGTH = 160  # time points
KNOWN = 50  # scans of val, and as many that are asked about


class Peak(threading.Thread):
    """The largest memory of this process, looked at 20 times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own = self.file = 0.0  # GiB

    def run(self) -> None:
        """Look until the process ends."""
        while True:
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            sizes = {
                line.split(":")[0]: line.split()[1] for line in status.splitlines() if "kB" in line
            }
            self.own = max(self.own, int(sizes["RssAnon"]) / 2**20)
            self.file = max(self.file, (int(sizes["RssFile"]) + int(sizes["RssShmem"])) / 2**20)
            time.sleep(0.05)


def connectivity(count: int, n_rois: int, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return upper triangles of correlations of noise with a planted effect, (count, edges)."""
    rng = np.random.default_rng(seed)
    upper = np.triu_indices(n_rois, k=1)
    edges = allocate((count, len(upper[0])), np.float32)
    mixing = rng.standard_normal((n_rois, 8), dtype=np.float32)
    for index in range(count):
        series = mixing @ rng.standard_normal((8, LENGTH), dtype=np.float32)
        series += 3 * rng.standard_normal((n_rois, LENGTH), dtype=np.float32)
        series[:4] += labels[index] * rng.standard_normal(LENGTH, dtype=np.float32)
        edges[index] = np.corrcoef(series)[upper]
    return edges


def matmul_peak() -> float:
    """Return TFLOP/s of a product of float32 matrices, the best of five."""
    square = np.ones((2048, 2048), np.float32)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        square @ square
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times) / 1e12


def measure(n_rois: int, count: int) -> str:
    """Return a row of the table."""
    peak = Peak()
    peak.start()
    sizes = (count, KNOWN, KNOWN)
    labels = [np.resize([0, 1], size) for size in sizes]
    start = time.perf_counter()
    parts = [
        connectivity(n, n_rois, y, i) for i, (n, y) in enumerate(zip(sizes, labels, strict=True))
    ]
    marks = [time.perf_counter() - start]
    coordinates = project(parts)
    marks.append(time.perf_counter() - start - sum(marks))
    told = {}
    for kind in ("ridge", "logistic"):
        begun = time.perf_counter()
        told[kind] = fit_linear(kind, coordinates, (labels[0], labels[1]), 2)
        marks.append(time.perf_counter() - begun)
    right = (told["ridge"].argmax(axis=1) == labels[2]).mean()
    times = " | ".join(f"{mark:.1f} s" for mark in marks)
    return (
        f"| {count} x {n_rois} | {times} | {peak.own:.2f} GiB | {peak.file:.2f} GiB | {right:.2f} |"
    )


def main() -> None:
    """Print the table."""
    n_rois, *counts = map(int, sys.argv[1:])
    if len(counts) == 1:
        print(measure(n_rois, counts[0]), flush=True)
        return
    print(f"matrix product: {matmul_peak():.3f} TFLOP/s\n")
    print("| scans x regions | features | span | ridge | logistic | memory | file | right |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for count in counts:
        subprocess.run([sys.executable, __file__, str(n_rois), str(count)], check=True)


if __name__ == "__main__":
    main()
