"""``fmrilm audit``: does anything of the evaluation reach the training, in any stage?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from fmrilm.checks.event_labels import check_events
from fmrilm.checks.finding import Finding, show
from fmrilm.checks.lineage import SAME_PEOPLE, check_lineage, told_columns
from fmrilm.checks.predictors import check_confounds, check_fields, check_hidden
from fmrilm.checks.preparation import check_dummy_scans
from fmrilm.checks.shared_scans import check_overlap
from fmrilm.cohort.cohort import SCALING_FILE, Cohort, read_info
from fmrilm.cohort.foreign import is_original
from fmrilm.cohort.scaling import Scaler
from fmrilm.errors import InputError
from fmrilm.readers import read_table
from fmrilm.studies.phenotypes import subject_key
from fmrilm.tables.families import family_columns, family_units


def audit(
    folders: list[str],
    *,
    run: str | None = None,
    add_desc: str | None = None,
    json: bool = False,
) -> int:
    """Look for leaks: over the splits, the stages, the scaling, the prompts, scans and events.

    Parameters
    ----------
    folders : list of str
        Cohort folders; together they are also checked against each other.
    run : str, optional
        Run folder that will be evaluated on them; it and all its parents are checked.
    add_desc : str, optional
        Columns told to the model in the prompt, with commas between them, besides those of the run;
        None: those of the run alone, without a run age and sex.
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
    fields = None if add_desc is None else [name.strip() for name in add_desc.split(",")]
    findings = find_leaks(folders, None if run is None else Path(run), fields)
    return show(findings, ", ".join(folders), json)


def find_leaks(
    folders: Sequence[str | Path], run: Path | None = None, fields: list[str] | None = None
) -> list[Finding]:
    """Return everything :func:`audit` finds.

    Parameters
    ----------
    folders : sequence of path
        Cohort folders.
    run : Path, optional
        Run folder.
    fields : list of str, optional
        Columns told to the model besides those of the run.
    """
    if fields is None:
        fields = ["age", "sex"] if run is None else []
    told = dict.fromkeys([*filter(None, fields), *(told_columns(run) if run else [])])
    findings: list[Finding] = []
    cohorts: list[Cohort] = []
    for folder in map(Path, folders):
        in_two = list(check_split_file(folder))
        findings += in_two
        if not in_two:  # else the cohort cannot be opened
            cohorts.append(Cohort(folder, "none", packed=False))
    for cohort in cohorts:
        findings += [
            *check_families(cohort),
            *check_spellings(cohort),
            *check_scaling(cohort),
            *check_fields(cohort, list(told)),
            *check_confounds(cohort),
            *check_hidden(cohort),
            *check_events(cohort),
            *check_dummy_scans(cohort),
        ]
    findings += [*check_overlap(cohorts), *check_shared_people(cohorts)]
    if run is not None:
        findings += check_lineage(run, cohorts)
    return findings


def check_split_file(folder: Path) -> Iterator[Finding]:
    """A subject in two splits of ``splits.tsv``."""
    path = folder / "splits.tsv"
    if not path.is_file():
        return
    table = read_table(path, dtype=str)
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
    """Relatives on both sides, by any column that names a family, a parent or a twin pair."""
    names = family_columns(cohort.table)
    if not names:
        return
    units = family_units(cohort.table, "subject_id")
    both = [str(f) for f, rows in cohort.table.groupby(units) if len(set(rows["split"])) > 1]
    if both:
        yield Finding(
            "family_in_two_splits",
            "error",
            f"{cohort.name}: {len(both)} families have members in more than one split",
            f"delete splits.tsv: new splits keep the families of {', '.join(names)} together",
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
    path = cohort.place(SCALING_FILE)
    if not path.is_file() or is_original(path.parent):  # its own, named when it is used
        return
    scaler = Scaler.load(path)
    if not scaler.fitted_on_ and Scaler(scaler.norm).is_fitted is False:
        yield Finding(
            "scaling_of_unknown_origin",
            "error",
            f"{cohort.name}: {path.name} does not say on which subjects it was fitted (fitted_on)",
            f"delete {path.name}; it is fitted on train when the cohort is opened",
        )
    fitted = set(scaler.fitted_on_)
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


def check_shared_people(cohorts: list[Cohort]) -> Iterator[Finding]:
    """The same people in two cohorts, in different splits."""
    for one, two in combinations(cohorts, 2):
        first = one.table.drop_duplicates("subject_id").set_index("subject_id")["split"]
        second = two.table.drop_duplicates("subject_id").set_index("subject_id")["split"]
        common = first.index.intersection(second.index)
        if len(common) < SAME_PEOPLE * min(len(first), len(second)):
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
