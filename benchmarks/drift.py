"""What the drift meter flags: held-out scans as they are, and the same scans spoiled in known ways.

    python benchmarks/drift.py --subjects 250 --seed 31

SYNTHETIC cohorts. The meter is fitted on the training people; held-out people (val and test) are
read as they are, with regions shuffled, sampled at another TR, filtered, and with three times the
motion (every person simulated again).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scipy.signal import butter, sosfiltfilt

from fmrilm.cohort.cohort import Cohort
from fmrilm.datasets.synthetic.cohort import simulate
from fmrilm.processing.drift import DriftMeter


def share(meter: DriftMeter, scans: list[np.ndarray], fds: list[float]) -> float:
    flagged = [meter.compare(x, fd).is_unlike for x, fd in zip(scans, fds, strict=True)]
    return float(np.mean(flagged))


def resampled(series: np.ndarray, factor: float) -> np.ndarray:
    """The series as if a volume were taken every ``factor`` of its own."""
    place = np.arange(0, series.shape[1] - 1, factor)
    return np.stack([np.interp(place, np.arange(series.shape[1]), row) for row in series])


def with_jumps(series: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The series with six jumps that all regions share in part, as moving the head makes."""
    sd = series.std(axis=1, keepdims=True)
    made = series.copy()
    for at in rng.choice(series.shape[1] - 2, 6, replace=False):
        made[:, at : at + 2] += sd * rng.normal(3, 1, (len(series), 1)) * rng.choice([-1, 1])
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--subjects", type=int, default=250)
    parser.add_argument("--seed", type=int, default=31)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    print("| cohort (SYNTHETIC) | held out | shuffled | TR x 0.5 | TR x 1.5 | filtered | jumps |")
    print("|---|---|---|---|---|---|---|")
    for number, name in enumerate(("UKB", "ADNI", "ABIDE2")):
        with tempfile.TemporaryDirectory() as place:
            folder = simulate(place, cohort=name, subjects=given.subjects, seed=given.seed + number,
                              timepoints=240)  # fmt: skip
            cohort = Cohort(Path(folder))
            train = cohort.indices("train").tolist()
            held = [int(i) for split in ("val", "test") for i in cohort.indices(split)]
            fds = cohort.table["mean_fd"].to_numpy(float)
            raw = {i: cohort.store.read(i)[0].astype(float) for i in [*train, *held]}
            meter = DriftMeter().fit([raw[i][:, :160] for i in train], 2.0, fds[train])
            whole = [raw[i] for i in held]
            fd = [fds[i] for i in held]
            scans = [x[:, :160] for x in whole]
            band = butter(2, (0.01, 0.1), "bandpass", fs=0.5, output="sos")
            kinds = [
                scans,
                [x[rng.permutation(len(x))] for x in scans],
                [resampled(x[:, :81], 0.5)[:, :160] for x in whole],
                [resampled(x, 1.5)[:, :159] for x in whole],
                [sosfiltfilt(band, x - x.mean(1, keepdims=True), axis=1) for x in scans],
                [with_jumps(x, rng) for x in scans],
            ]
            cells = [f"{100 * share(meter, kind, fd):.0f}%" for kind in kinds]
            print(f"| {name}, {len(held)} scans | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
