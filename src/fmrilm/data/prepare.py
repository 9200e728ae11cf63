"""``fmrilm prepare``: from a folder of scans to a cohort folder, restartable at any moment.

The store gets, beside the layout of :mod:`fmrilm.data.store`, in ``metadata``: ``coverage``
(n_samples, n_rois), ``fingerprints`` and ``facts`` (JSON, one per sample) and ``preparation`` (the
settings).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import yaml

from fmrilm.data.atlas import Atlas
from fmrilm.data.atlas_volume import find_image, load_atlas
from fmrilm.data.cohort import STORE_FILE, Cohort, read_participants, write_info, write_table
from fmrilm.data.cohorts import COHORTS, CohortInfo, read_cohort_yaml
from fmrilm.data.finding import find_scans
from fmrilm.data.inputs import IMAGES, ScanFile
from fmrilm.data.parallel import workers
from fmrilm.data.parts import (
    OldStore,
    fingerprint,
    hash_settings,
    join_parts,
    part_path,
    scan_table,
    write_part,
)
from fmrilm.data.phenotypes import add_bins, map_phenotypes
from fmrilm.data.prepare_scan import PrepareSettings, load_settings, prepare_scan
from fmrilm.data.progress import track
from fmrilm.data.replacing import replacing
from fmrilm.data.splits import read_splits, split_subjects
from fmrilm.data.store import TimeSeriesStore
from fmrilm.errors import InputError

PARTLY_DONE = 3  # exit code


def prepare(
    root: str,
    settings: list[str] | None = None,
    *,
    output: str,
    cohort: str = "BIDS",
    phenotypes: str | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    slurm: str | None = None,
) -> int:
    """Turn a folder of scans into a cohort folder: parcellate, clean, resample, cut, split.

    A killed run is continued by the same command; scans that are done are not done again, and new
    scans are added. A scan that cannot be used is skipped, with its reason in ``failures.tsv``.

    Parameters
    ----------
    root : str
        Folder of the scans (fMRIPrep or XCP-D derivatives, or what the cohort's patterns say), or
        an HDF5 store of the original.
    settings : list of str
        key=value pairs: atlas, atlas_image, min_coverage, strategy, detrend, high_pass, low_pass,
        t_r, target_t_r, resampling, length, n_timepoints, seed, variable, bids.ENTITY.
    output : str
        The cohort folder to write or to continue.
    cohort : str
        A known cohort (UKB, ABCD, HCP, HCP-Aging, ADNI, ADHD200, ABIDE2, BIDS) or a YAML file.
    phenotypes : str, optional
        Table of the participants (TSV or CSV); None: participants.tsv in the output or the root.
    jobs : int
        Processes, or Slurm jobs.
    scheduler : str, optional
        Address of a Dask scheduler to work on instead, e.g. tcp://host:8786.
    slurm : str, optional
        Work on Slurm through Dask: options of SLURMCluster, e.g. queue=cpu,memory=8GB.

    Returns
    -------
    exit_code : int
        0, or 3 if some scans failed.

    Raises
    ------
    InputError
        If nothing is found, a setting is wrong, or every scan fails.

    Examples
    --------
    fmrilm prepare derivatives/fmriprep --output data/mine --jobs 4 strategy=simple
    """
    info = COHORTS[cohort] if cohort in COHORTS else read_cohort_yaml(_yaml_path(cohort))
    options = load_settings(settings or [])
    folder = Path(output)
    atlas = load_atlas(options.atlas)
    scans = find_scans(root, info, options.strategy, dict(options.bids))
    image = _label_image(scans, atlas, options)
    if image is not None:
        options = dataclasses.replace(options, atlas_image=str(image))
    elif options.atlas_image is not None:
        image = Path(options.atlas_image)
    folder.mkdir(parents=True, exist_ok=True)

    marks = _fingerprints(scans, hash_settings(options, atlas, image))
    done = OldStore(folder / STORE_FILE).marks
    todo = [
        (scan, part_path(folder, scan, mark))
        for scan, mark in zip(scans, marks, strict=True)
        if mark not in done and not part_path(folder, scan, mark).is_file()
    ]
    failures = []
    work = partial(_work, atlas=atlas, info=info, options=options)
    with workers(jobs, scheduler, slurm) as run:
        for failure in track(run(work, todo), "preparing scans", len(todo)):
            if failure is not None:
                failures.append(failure)
                write_failures(failures, folder)
    write_failures(failures, folder)
    if len(failures) == len(scans):
        raise InputError(f"none of the {len(scans)} scans could be used, see {folder}/failures.tsv")

    source = f"fmrilm prepare {root}"
    join_parts(folder / STORE_FILE, list(zip(scans, marks, strict=True)), atlas, options, source)
    table = pd.DataFrame(scan_table(TimeSeriesStore(folder / STORE_FILE)))
    write_table(table, folder / "scans.tsv")
    _write_motion(table, folder)
    atlas.to_tsv(folder / "atlas.tsv")
    info = _describe(info, folder, source, atlas)
    write_participants(folder, Path(root), info, sorted(set(table["participant_id"])), phenotypes)
    settings_text = yaml.safe_dump(dataclasses.asdict(options), sort_keys=False)
    with replacing(folder / "prepare.yaml") as partial_file:
        partial_file.write_text(settings_text, encoding="utf-8")
    made = Cohort(folder)  # checks the folder and fits what the scaling needs on train
    from fmrilm.data.qc import write_qc

    write_qc(made, folder / "qc.html")
    _summary(made, scans, todo, failures)
    return PARTLY_DONE if failures else 0


def _yaml_path(cohort: str) -> str:
    if not cohort.endswith((".yaml", ".yml")):
        _ = COHORTS[cohort]  # raises with a suggestion
    return cohort


def _label_image(scans: list[ScanFile], atlas: Atlas, options: PrepareSettings) -> Path | None:
    names = [scan.path.name for scan in scans]
    needed = any(name.endswith(IMAGES) and not name.endswith(".ptseries.nii") for name in names)
    return find_image(atlas, options.atlas_image) if needed else None


def _fingerprints(scans: list[ScanFile], settings_hash: str) -> list[str]:
    return [fingerprint(scan, settings_hash) for scan in scans]


def _work(
    job: tuple[ScanFile, Path], atlas: Atlas, info: CohortInfo, options: PrepareSettings
) -> tuple[ScanFile, str] | None:
    """Prepare one scan and write its part; return the scan and the reason if it cannot be used."""
    scan, path = job
    try:
        write_part(path, prepare_scan(scan, atlas, info, options))
    except (InputError, FileNotFoundError) as error:
        return scan, str(error)
    except Exception as error:  # one bad scan must not end a long job
        return scan, f"unexpected {type(error).__name__}: {error}"
    return None


def write_failures(failures: Sequence[tuple[ScanFile, str]], folder: Path) -> None:
    """Write ``failures.tsv``, or remove it if there are none."""
    path = folder / "failures.tsv"
    if not failures:
        path.unlink(missing_ok=True)
        return
    rows = [
        {
            "participant_id": scan.subject,
            "session_id": scan.session,
            "path": str(scan.path),
            "reason": " ".join(reason.split()),
        }
        for scan, reason in failures
    ]
    table = pd.DataFrame(rows).sort_values(["participant_id", "session_id"])
    write_table(table, path)


def _write_motion(scans: pd.DataFrame, folder: Path) -> None:
    """Write ``samples.tsv``: the mean FD of every sample, beside what the user put there."""
    path = folder / "samples.tsv"
    keys = ["participant_id", "session_id"]
    table = scans[[*keys, "mean_fd"]]
    if path.is_file():
        ids = dict.fromkeys(keys, str)
        before = pd.read_csv(path, sep="\t", dtype=ids, na_values=["n/a"])
        table = table.merge(before.drop(columns="mean_fd", errors="ignore"), on=keys, how="left")
    write_table(table, path)


def _describe(info: CohortInfo, folder: Path, source: str, atlas: Atlas) -> CohortInfo:
    path = folder / "cohort.yaml"
    if path.is_file():  # the user may have changed it
        return read_cohort_yaml(path)
    name = folder.resolve().name if info.name == "BIDS" else info.name
    text = info.description or f"This scan is from the study {name}."
    info = dataclasses.replace(info, name=name, description=text, source=source, atlas=atlas.name)
    write_info(folder, info)
    return info


def write_participants(
    folder: Path, root: Path, info: CohortInfo, subjects: list[str], phenotypes: str | None
) -> None:
    """Write ``participants.tsv`` and ``splits.tsv``; subjects that have a split keep it."""
    ours = folder / "participants.tsv"
    if phenotypes is not None:
        table = map_phenotypes(phenotypes, info, subjects)
    else:
        table = pd.DataFrame({"participant_id": pd.Series(dtype=str)})
        if ours.is_file():  # the user may have added columns
            table = read_participants(folder).rename(columns={"subject_id": "participant_id"})
        new = sorted({*subjects} - {*table["participant_id"]})
        theirs = _root_table(root)
        if new and theirs is not None:
            generic = dataclasses.replace(COHORTS["BIDS"], values=info.values)
            added = map_phenotypes(theirs, generic, new)
        else:
            added = pd.DataFrame({"participant_id": new})
        # An empty table would still turn the numbers of the other into floats.
        both = [one for one in (table, added) if len(one)]
        table = pd.concat(both, ignore_index=True) if both else added
    path = folder / "splits.tsv"
    before = read_splits(path) if path.is_file() else {}
    raw = [target.removesuffix("_enc") for target in info.targets]
    stratify = [name for name in dict.fromkeys([*raw, "site"]) if name in table]
    splits = split_subjects(table, stratify, known=before)
    table, fitted = add_bins(table, dict(splits.itertuples(index=False)), info.bins)
    write_table(splits, path)
    write_table(table, ours)
    if fitted:
        text = json.dumps({"fitted_on": "train", "bins": fitted}, indent=2)
        with replacing(folder / "phenotypes.json") as partial_file:
            partial_file.write_text(text + "\n", encoding="utf-8")


def _root_table(root: Path) -> Path | None:
    """Return ``participants.tsv`` of the scans, or of the raw data set its derivatives lie in."""
    places: Iterator[Path] = iter([root, *root.resolve().parents[:2]])
    return next(
        (p / "participants.tsv" for p in places if (p / "participants.tsv").is_file()), None
    )


def _summary(
    made: Cohort, scans: list[ScanFile], todo: Sequence[object], failures: Sequence[object]
) -> None:
    from rich.console import Console

    facts = made.store.extra("facts")
    noted = sum(bool(json.loads(text)["notes"]) for text in facts) if facts is not None else 0
    Console(stderr=True).print(
        f"{len(scans)} scans found, {len(todo) - len(failures)} prepared now, {len(failures)} "
        f"failed; {len(made)} samples of {made.table['subject_id'].nunique()} subjects in "
        f"{made.store.path}; {noted} with notes (scans.tsv); look at {made.folder / 'qc.html'}",
        soft_wrap=True,
        highlight=False,
    )
