"""``fmrilm audit``: does anything of the evaluation reach the training, in any stage?"""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from fmrilm.data.audit_predictors import check_confounds, check_fields
from fmrilm.data.cohort import SCALING_FILE, Cohort, read_info
from fmrilm.data.findings import Finding, show
from fmrilm.data.phenotypes import subject_key
from fmrilm.data.scaling import Scaler
from fmrilm.data.trained_on import TRAINED_ON_FILE, read_trained_on
from fmrilm.errors import InputError

_SHARED_VOLUMES = 5  # identical volumes that make two samples overlap
_SAME_PEOPLE = 0.5  # share of common ids from which two cohorts are taken to hold the same people


def audit(
    folders: list[str], *, run: str | None = None, add_desc: str = "age,sex", json: bool = False
) -> int:
    """Look for leaks: over the splits, the stages, the scaling and the prompts.

    Parameters
    ----------
    folders : list of str
        Cohort folders; together they are also checked against each other.
    run : str, optional
        Run folder that will be evaluated on them; it and all its parents are checked.
    add_desc : str
        Columns told to the model in the prompt, with commas between them.
    json : bool
        Print JSON instead of a table.

    Returns
    -------
    exit_code : int
        0 if nothing was found (notes do not count), else 1.

    Examples
    --------
    fmrilm audit data/UKB --run runs/inst
    """
    fields = [name.strip() for name in add_desc.split(",") if name.strip()]
    findings: list[Finding] = []
    cohorts: list[Cohort] = []
    for folder in map(Path, folders):
        found = list(check_split_file(folder))
        findings += found
        if any(finding.code == "subject_in_two_splits" for finding in found):
            continue  # the cohort cannot be opened like this
        cohorts.append(Cohort(folder, "none", packed=False))
    for cohort in cohorts:
        findings += [
            *check_families(cohort),
            *check_spellings(cohort),
            *check_scaling(cohort),
            *check_fields(cohort, fields),
            *check_confounds(cohort),
        ]
    findings += [*check_overlap(cohorts), *check_shared_people(cohorts)]
    if run is not None:
        findings += check_lineage(Path(run), cohorts)
    return show(findings, ", ".join(folders), json)


def check_split_file(folder: Path) -> Iterator[Finding]:
    """A subject in two splits of ``splits.tsv``."""
    path = folder / "splits.tsv"
    if not path.is_file():
        return
    table = pd.read_csv(path, sep="\t", dtype=str)
    if not {"participant_id", "split"} <= set(table):
        raise InputError(f"{path} needs the columns participant_id and split")
    both = [
        str(subject)
        for subject, rows in table.groupby("participant_id")["split"]
        if len(set(rows)) > 1
    ]
    if both:
        name = read_info(folder).name
        yield Finding(
            "subject_in_two_splits",
            "error",
            f"{name}: {len(both)} subjects are in more than one split",
            "delete splits.tsv: new splits are made by subject",
            both,
        )


def check_families(cohort: Cohort) -> Iterator[Finding]:
    """Members of a family on both sides."""
    if "family_id" not in cohort.table:
        return
    known = cohort.table.dropna(subset=["family_id"])
    both = [str(f) for f, rows in known.groupby("family_id") if len(set(rows["split"])) > 1]
    if both:
        yield Finding(
            "family_in_two_splits",
            "error",
            f"{cohort.name}: {len(both)} families have members in more than one split",
            "delete splits.tsv: new splits keep the families of family_id together",
            both,
        )


def check_spellings(cohort: Cohort) -> Iterator[Finding]:
    """Ids in different splits that differ only in punctuation or leading zeros."""
    subjects = cohort.table.drop_duplicates("subject_id")
    keys = subjects["subject_id"].map(subject_key)
    both = []
    for _, rows in subjects.groupby(keys):
        if len(rows) > 1 and len(set(rows["split"])) > 1:
            both.append(" = ".join(rows["subject_id"]))
    if both:
        yield Finding(
            "same_subject_spelled_differently",
            "error",
            f"{cohort.name}: {len(both)} subjects seem to be in two splits under two spellings",
            "give each person one participant_id, or a common family_id",
            both,
        )


def check_scaling(cohort: Cohort) -> Iterator[Finding]:
    """Scaling statistics learned from subjects that are not in train."""
    path = cohort.folder / SCALING_FILE
    if not path.is_file():
        return
    fitted = set(Scaler.load(path).fitted_on_)
    train = set(cohort.table.loc[cohort.table["split"] == "train", "subject_id"])
    outside = sorted(fitted - train)
    if outside:
        yield Finding(
            "scaling_fitted_on_test",
            "error",
            f"{cohort.name}: {path.name} was fitted on {len(outside)} subjects outside train",
            f"delete {path.name}; it is fitted on train when the cohort is opened",
            outside,
        )


def check_overlap(cohorts: list[Cohort]) -> Iterator[Finding]:
    """Samples of different splits that share volumes: overlapping windows, copies under new ids."""
    marks: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    splits: list[str] = []
    names: list[str] = []
    for cohort in cohorts:
        for index in range(len(cohort)):
            found = _volume_marks(cohort.store.raw(index))
            marks.append(found)
            owners.append(np.full(len(found), len(names)))
            row = cohort.table.iloc[index]
            splits.append(row["split"])
            names.append(f"{cohort.name} {row['subject_id']} {row['session_id']} ({row['split']})")
    if not marks:
        return
    flat, owner = np.concatenate(marks), np.concatenate(owners)
    order = np.argsort(flat, kind="stable")
    flat, owner = flat[order], owner[order]
    shared: dict[tuple[int, int], int] = {}
    edges = np.flatnonzero(np.diff(flat)) + 1
    for group in np.split(owner, edges):
        members = sorted(set(group.tolist())) if len(group) > 1 else []
        for one, two in combinations(members, 2):
            if splits[one] != splits[two]:
                shared[one, two] = shared.get((one, two), 0) + 1
    pairs = [pair for pair, count in shared.items() if count >= _SHARED_VOLUMES]
    if pairs:
        yield Finding(
            "overlap",
            "error",
            f"{len(pairs)} pairs of samples in different splits share volumes",
            "give windows of one scan, and copies of a scan, to the same subject and split",
            [f"{names[one]} / {names[two]}" for one, two in pairs],
        )


def _volume_marks(series: np.ndarray) -> np.ndarray:
    """Return a number per volume that is equal for equal volumes; absent regions do not count."""
    bits = np.ascontiguousarray(np.nan_to_num(series)).view(np.uint32).astype(np.uint64)
    varies = np.ptp(np.nan_to_num(series), axis=1) > 0
    if not varies.any():
        return np.zeros(0, np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, len(series), dtype=np.uint64) | 1
    return (bits[varies] * factors[varies, None]).sum(axis=0, dtype=np.uint64)


def check_shared_people(cohorts: list[Cohort]) -> Iterator[Finding]:
    """The same people in two cohorts, in different splits."""
    for one, two in combinations(cohorts, 2):
        first = one.table.drop_duplicates("subject_id").set_index("subject_id")["split"]
        second = two.table.drop_duplicates("subject_id").set_index("subject_id")["split"]
        common = first.index.intersection(second.index)
        if len(common) < _SAME_PEOPLE * min(len(first), len(second)):
            continue  # a few equal ids, such as sub-01, are other people
        moved = [str(name) for name in common if first[name] != second[name]]
        if moved:
            yield Finding(
                "subject_in_two_splits",
                "error",
                f"{len(moved)} subjects are in different splits of {one.name} and {two.name}",
                "copy the splits.tsv of one to the other",
                moved,
            )


def check_lineage(run: Path, cohorts: list[Cohort]) -> list[Finding]:
    """Test scans that the run or one of its parents has seen; lost parents.

    Parameters
    ----------
    run : Path
        Run folder with ``lineage.json``.
    cohorts : list of Cohort
        What it is evaluated on.
    """
    findings = []
    for folder, lineage in _ancestors(run):
        stage = lineage.get("stage", folder.name)
        seen = read_trained_on(folder)
        for cohort in cohorts:
            table = cohort.table
            test = {str(name) for name in table.loc[table["split"] == "test", "subject_id"]}
            if seen is not None:
                used = set(seen.loc[seen["cohort"] == cohort.name, "participant_id"])
                both = sorted(test & used)
            else:
                before = lineage.get("cohorts", {}).get(cohort.name)
                if before is None or before["fingerprint"] == cohort.fingerprint():
                    continue  # it did not see this cohort, or with these very splits
                findings.append(
                    Finding(
                        "splits_changed",
                        "error",
                        f"stage {stage} ({folder}) was trained on another state of {cohort.name} "
                        f"and has no {TRAINED_ON_FILE}: its test scans may have been seen",
                        "train the stage again on the present splits",
                        [str(folder)],
                    )
                )
                continue
            if both:
                findings.append(
                    Finding(
                        "test_seen_in_training",
                        "error",
                        f"stage {stage} ({folder}) has seen {len(both)} test subjects of "
                        f"{cohort.name}",
                        "train the stage again on the present splits, or evaluate on other people",
                        both,
                    )
                )
    return findings


def _ancestors(run: Path) -> Iterator[tuple[Path, dict]]:
    """Yield the run and its parents with their ``lineage.json``."""
    folder: Path | None = run
    while folder is not None:
        path = folder / "lineage.json"
        if not path.is_file():
            raise InputError(f"{folder} has no lineage.json: give the folder of a run")
        lineage = json_module.loads(path.read_text(encoding="utf-8"))
        yield folder, lineage
        folder = Path(lineage["parent"]) if lineage.get("parent") else None
