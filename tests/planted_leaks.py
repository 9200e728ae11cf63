"""A catalogue of leaks: each one is planted in a copy of a clean cohort for `fmrilm audit` to find.

A clean cohort has one row per subject in ``participants.tsv``, a binary task as its first target,
and at least 60 people.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from fmrilm.checks.audit import find_leaks
from fmrilm.checks.finding import Finding
from fmrilm.cohort.cohort import SCALING_FILE, STORE_FILE, Cohort, write_info
from fmrilm.cohort.labels import write_table
from fmrilm.cohort.scaling import Scaler
from fmrilm.config.schema import load_config, save_config
from fmrilm.tasks import TASKS
from fmrilm.training.runs import write_lineage

OTHER = {"train": "test", "test": "train", "val": "val"}


@dataclass
class Case:
    """A cohort with a leak, and how the audit is asked."""

    folder: Path
    run: Path | None = None
    fields: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folders = [self.folder]
        self.cohort = Cohort(self.folder, "none", packed=False)
        self.table = self.cohort.table.copy()
        self.column = TASKS[self.cohort.info.targets[0]].column
        classes = self.table[self.column].map(TASKS[self.cohort.info.targets[0]].class_index)
        self.is_case = classes.to_numpy() == 1
        self.rng = np.random.default_rng(0)

    def first(self, split: str) -> int:
        """Return the first scan of a split."""
        return int(self.cohort.indices(split)[0])

    def open_store(self) -> h5py.File:
        """Return the HDF5 file of the cohort for writing; the cohort's own handle is closed."""
        self.cohort.store = copy(self.cohort.store)  # without its handle
        gc.collect()
        return h5py.File(self.folder / STORE_FILE, "r+")

    def edit(self, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        """Change a table of the cohort."""
        table = pd.read_csv(self.folder / name, sep="\t", dtype={"participant_id": str})
        write_table(change(table), self.folder / name)

    def write(self, changed: dict[int, np.ndarray]) -> None:
        """Put other series into the store."""
        with self.open_store() as handle:
            for index, series in changed.items():
                del handle[f"time_series/sample_{index}"]
                handle[f"time_series/sample_{index}"] = series.astype(np.float32)

    def add_column(self, name: str, values: np.ndarray) -> None:
        """Give every subject a value (of the first of its scans)."""
        by_subject = dict(zip(self.table["subject_id"][::-1], values[::-1], strict=True))
        self.edit(
            "participants.tsv", lambda t: t.assign(**{name: t["participant_id"].map(by_subject)})
        )
        samples = self.folder / "samples.tsv"  # what is known of the scan wins
        if samples.is_file() and name in pd.read_csv(samples, sep="\t", nrows=0):
            self.edit("samples.tsv", lambda t: t.drop(columns=name))

    def nearly_case(self, errors: float = 0.1) -> np.ndarray:
        """Return who has the label, with some of the people mistaken."""
        subjects = self.table["subject_id"]
        mistaken = self.rng.permutation(subjects.unique())
        mistaken = mistaken[: int(len(mistaken) * errors)]
        return self.is_case ^ subjects.isin(mistaken).to_numpy()

    def make_run(self, name: str, stage: str = "instruct", parent: Path | None = None) -> Path:
        """Write the folder of a run that was trained on the cohort as it is now."""
        run = self.folder.parent / name
        run.mkdir()
        write_lineage(run, stage, parent, [Cohort(self.folder, packed=False)])
        return run


LEAKS: dict[str, tuple[str, Callable[[Case], None]]] = {}  # name -> code of the finding, planting


def _leak(name: str, code: str) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    def register(plant: Callable[[Case], None]) -> Callable[[Case], None]:
        LEAKS[name] = (code, plant)
        return plant

    return register


def plant(name: str, clean: Path, place: Path) -> Case:
    """Return a copy of a clean cohort with one leak in it."""
    folder = place / "cohort"
    shutil.copytree(clean, folder)
    case = Case(folder)
    LEAKS[name][1](case)
    return case


def look(case: Case) -> list[Finding]:
    """Return what the audit finds."""
    return find_leaks(case.folders, case.run, case.fields)


@_leak("a subject in two splits", "subject_in_two_splits")
def _two_splits(case: Case) -> None:
    def double(table: pd.DataFrame) -> pd.DataFrame:
        row = table.iloc[0]
        return pd.concat([table, pd.DataFrame([{**row, "split": OTHER[row["split"]]}])])

    case.edit("splits.tsv", double)


def _relatives(case: Case, column: str) -> None:
    subjects = case.table["subject_id"]
    pair = {subjects[case.first("train")], subjects[case.first("test")]}
    names = np.array([f"f{s}" if s not in pair else "f0" for s in subjects])
    case.edit("participants.tsv", lambda t: t.drop(columns="family_id", errors="ignore"))
    case.add_column(column, names)


@_leak("relatives by family_id", "family_in_two_splits")
def _family_id(case: Case) -> None:
    _relatives(case, "family_id")


@_leak("relatives by HCP's Family_ID", "family_in_two_splits")
def _hcp_family(case: Case) -> None:
    _relatives(case, "Family_ID")


@_leak("relatives by HCP's Mother_ID", "family_in_two_splits")
def _hcp_mother(case: Case) -> None:
    _relatives(case, "Mother_ID")


@_leak("a person under two spellings", "same_subject_spelled_differently")
def _spellings(case: Case) -> None:
    subjects = case.table["subject_id"]
    new = {subjects[case.first("train")]: "sub-0007", subjects[case.first("test")]: "7"}
    with case.open_store() as handle:
        kept = [new.get(name.decode(), name.decode()) for name in handle["metadata/subjects"][()]]
        del handle["metadata/subjects"]
        text = h5py.string_dtype("utf-8")
        handle["metadata"].create_dataset("subjects", data=kept, dtype=text)
    for name in ("participants.tsv", "splits.tsv", "samples.tsv"):
        if (case.folder / name).is_file():
            case.edit(name, lambda t: t.replace({"participant_id": new}))


@_leak("scaling fitted on test people", "scaling_fitted_on_test")
def _scaling_on_test(case: Case) -> None:
    scaler = Scaler("robust_global").fit(case.cohort.store, np.arange(len(case.cohort)))
    scaler.save(case.folder / SCALING_FILE)


@_leak("a scaling file without fitted_on", "scaling_of_unknown_origin")
def _scaling_unsaid(case: Case) -> None:
    np.savez(case.folder / SCALING_FILE, norm="robust_global", center=0.0, scale=1.0)


@_leak("overlapping windows of one scan", "overlap")
def _windows(case: Case) -> None:
    train, test = (case.cohort.store.raw(case.first(split)) for split in ("train", "test"))
    kept = test.shape[1] // 4
    moved = np.hstack([train[:, -kept:], test[:, kept:]])
    case.write({case.first("test"): moved})


def _copy(case: Case, change: Callable[[np.ndarray], np.ndarray]) -> None:
    case.write({case.first("test"): change(case.cohort.store.raw(case.first("train")))})


def _noisy(case: Case, share: float) -> None:
    def add(series: np.ndarray) -> np.ndarray:
        spread = np.nanstd(series, axis=1, keepdims=True)
        return series + share * spread * case.rng.standard_normal(series.shape)

    _copy(case, add)


COPIES: dict[str, Callable[[Case], None]] = {
    "a copy times 1.01": lambda case: _copy(case, lambda s: s * np.float32(1.01)),
    "a copy, mean-centred": lambda case: _copy(case, lambda s: s - s.mean(axis=1, keepdims=True)),
    "a copy through float16": lambda case: _copy(case, lambda s: s.astype(np.float16)),
    "a copy with noise of 0.1%": lambda case: _noisy(case, 0.001),
    "a copy with noise of 20%": lambda case: _noisy(case, 0.2),
}
_leak("an exact copy of a scan", "overlap")(lambda case: _copy(case, lambda s: s))
for _name, _plant in COPIES.items():
    _leak(_name, "copy")(_plant)


@_leak("a prompt field that reveals the label", "field_reveals_label")
def _field(case: Case) -> None:
    case.add_column("title", np.where(case.is_case, "one kind", "the other kind"))
    case.fields = ["title"]


@_leak("a prompt field of the run itself", "field_reveals_label")
def _field_of_run(case: Case) -> None:
    case.add_column("title", np.where(case.is_case, "one kind", "the other kind"))
    case.run = case.make_run("run")
    save_config(load_config(overrides=["instruct.add_desc=[title]"]), case.run / "config.yaml")


@_leak("the site predicts the label", "site_predicts_label")
def _site(case: Case) -> None:
    case.add_column("site", np.where(case.nearly_case(), "a", "b"))


@_leak("the site in whole numbers", "site_predicts_label")
def _site_numbers(case: Case) -> None:
    codes = np.where(case.nearly_case(), case.rng.choice([1, 3, 5], len(case.table)),
                     case.rng.choice([2, 4, 6], len(case.table)))  # fmt: skip
    case.add_column("site", codes)


@_leak("the scanner predicts the label", "acquisition_predicts_label")
def _scanner(case: Case) -> None:
    case.add_column("scanner", np.where(case.nearly_case(), "Trio", "Prisma"))


@_leak("motion predicts the label", "motion_predicts_label")
def _motion(case: Case) -> None:
    noise = case.rng.uniform(0, 0.1, len(case.table))
    case.add_column("mean_fd", np.where(case.nearly_case(), 0.3, 0.15) + noise)


@_leak("the label in the absent regions", "missing_regions_predict_label")
def _absent(case: Case) -> None:
    changed = {}
    for index in np.flatnonzero(case.nearly_case()):
        series = case.cohort.store.raw(int(index)).copy()
        series[-1] = np.nan
        changed[int(index)] = series
    case.write(changed)


@_leak("the label in the length of a scan", "length_predicts_label")
def _length(case: Case) -> None:
    is_short = case.nearly_case()
    case.write({int(i): case.cohort.store.raw(int(i))[:, :-3] for i in np.flatnonzero(is_short)})


@_leak("the label in the intensity", "intensity_predicts_label")
def _intensity(case: Case) -> None:
    is_bright = case.nearly_case()
    case.write({int(i): case.cohort.store.raw(int(i)) * 2 for i in np.flatnonzero(is_bright)})


@_leak("test people seen by an earlier stage", "test_seen_in_training")
def _earlier_stage(case: Case) -> None:
    before = (case.folder / "splits.tsv").read_text()
    case.edit("splits.tsv", lambda t: t.assign(split=t["split"].map(OTHER)))
    tokenizer = case.make_run("tok", "tokenizer")
    (case.folder / "splits.tsv").write_text(before)
    case.run = case.make_run("run", parent=tokenizer)


@_leak("a tokenizer that saw the test people in another cohort", "test_scans_seen_in_training")
def _other_cohort(case: Case) -> None:
    other = case.folder.parent / "other"
    shutil.copytree(case.folder, other)
    second = Case(other)
    info = second.cohort.info
    write_info(other, type(info)(**{**info.__dict__, "name": "another"}))
    new = {
        name: f"p{number:03d}" for number, name in enumerate(second.table["subject_id"].unique())
    }
    with second.open_store() as handle:
        names = [new[name.decode()] for name in handle["metadata/subjects"][()]]
        handle["metadata/subjects"][...] = names
    for name in ("participants.tsv", "splits.tsv", "samples.tsv"):
        if (other / name).is_file():
            second.edit(name, lambda t: t.assign(participant_id=t["participant_id"].map(new)))
    second.edit("splits.tsv", lambda t: t.assign(split=t["split"].map(OTHER)))
    second.write({i: second.cohort.store.raw(i) * 1.5 for i in range(len(second.cohort))})
    (other / SCALING_FILE).unlink(missing_ok=True)
    tokenizer = Case(other).make_run("tok", "tokenizer")
    case.run = case.make_run("run", parent=tokenizer)


@_leak("labels changed after training", "labels_changed")
def _labels(case: Case) -> None:
    case.run = case.make_run("run")
    name = "samples.tsv" if (case.folder / "samples.tsv").is_file() else "participants.tsv"
    if case.column not in pd.read_csv(case.folder / name, sep="\t", nrows=0):
        name = "participants.tsv"
    case.edit(
        name,
        lambda t: t.assign(**{case.column: t[case.column].sample(frac=1, random_state=0).array}),
    )


@_leak("scans changed after training", "scans_changed")
def _scans(case: Case) -> None:
    case.run = case.make_run("run")
    order = np.roll(np.arange(1, len(case.cohort)), 1)  # all but the first
    case.write({i + 1: case.cohort.store.raw(int(j)) for i, j in enumerate(order)})


@_leak("the same people in another cohort with other splits", "subject_in_two_splits")
def _two_cohorts(case: Case) -> None:
    other = case.folder.parent / "other"
    shutil.copytree(case.folder, other)
    second = Case(other)
    info = second.cohort.info
    write_info(other, type(info)(**{**info.__dict__, "name": "another"}))
    second.edit("splits.tsv", lambda t: t.assign(split=t["split"].map(OTHER)))
    case.folders = [case.folder, other]
