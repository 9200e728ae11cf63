"""``fmrilm prepare``: from a folder of scans to a cohort folder, restartable at any moment.

The store gets, beside the layout of :mod:`fmrilm.cohort.store`, in ``metadata``: ``coverage``
(n_samples, n_rois), ``censored`` (n_samples, longest; True where a time point is interpolated over
censored volumes), ``fingerprints`` and ``facts`` (JSON, one per sample) and ``preparation`` (the
settings).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import yaml

from fmrilm.atlases.atlas import Atlas
from fmrilm.atlases.images import find_image, image_space, load_atlas
from fmrilm.cohort.cohort import STORE_FILE, Cohort, write_info
from fmrilm.cohort.labels import write_table
from fmrilm.cohort.store import TimeSeriesStore
from fmrilm.errors import InputError
from fmrilm.files import replacing
from fmrilm.jobs import workers
from fmrilm.locks import check_kind, writing
from fmrilm.preparation.participants import People, find_people, write_participants
from fmrilm.preparation.resume import (
    OldStore,
    fingerprint,
    hash_settings,
    join_parts,
    part_path,
    scan_table,
    write_part,
)
from fmrilm.preparation.sample_labels import sample_files, write_samples
from fmrilm.preparation.scan import PrepareSettings, load_settings, prepare_scan
from fmrilm.preparation.sources.find import find_scans
from fmrilm.preparation.sources.read import IMAGES, ScanFile
from fmrilm.progress import track
from fmrilm.studies.known import COHORTS, CohortInfo, read_cohort_yaml

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
        key=value pairs; the settings are listed below.
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
    check_kind(folder, "cohort")
    atlas = load_atlas(options.atlas)
    scans = find_scans(root, info, options.strategy, dict(options.bids))
    image = _label_image(scans, atlas, options)
    if image is not None:
        options = dataclasses.replace(options, atlas_image=str(image))
    elif options.atlas_image is not None:
        image = Path(options.atlas_image)
    subjects = sorted({scan.subject for scan in scans})
    people = find_people(folder, Path(root), info, subjects, phenotypes)
    with writing(folder):
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
            raise InputError(
                f"none of the {len(scans)} scans could be used, all reasons are in "
                f"{folder}/failures.tsv; the first: {' '.join(failures[0][1].split())}"
            )

        source = f"fmrilm prepare {root}"
        before = sample_files(folder / STORE_FILE)
        join_parts(
            folder / STORE_FILE, list(zip(scans, marks, strict=True)), atlas, options, source
        )
        table = pd.DataFrame(scan_table(TimeSeriesStore(folder / STORE_FILE)))
        write_table(table, folder / "scans.tsv")
        left = write_samples(table, folder, before)
        atlas.to_tsv(folder / "atlas.tsv")
        info = _describe(info, folder, source, atlas)
        write_participants(folder, info, people, table)
        settings_text = yaml.safe_dump(dataclasses.asdict(options), sort_keys=False)
        with replacing(folder / "prepare.yaml") as partial_file:
            partial_file.write_text(settings_text, encoding="utf-8")
        made = Cohort(folder)  # checks the folder and fits what the scaling needs on train
        from fmrilm.preparation.quality.page import write_qc

        write_qc(made, folder / "qc.html")
        _summary(made, (len(scans), len(todo), len(failures), left), people)
        return PARTLY_DONE if failures else 0


def _yaml_path(cohort: str) -> str:
    if not cohort.endswith((".yaml", ".yml")):
        _ = COHORTS[cohort]  # raises with a suggestion
    return cohort


def _label_image(scans: list[ScanFile], atlas: Atlas, options: PrepareSettings) -> Path | None:
    names = [scan.path.name for scan in scans]
    labels = options.atlas_image
    if all(name.endswith(".dtseries.nii") for name in names) and (
        labels is None or not labels.endswith(".dlabel.nii")
    ):
        space = image_space(scans[0].path)
        raise InputError(
            f"no image in an MNI space, only dense CIFTI (found: space-{space}, {names[0]}): give "
            "its labels with atlas_image=FILE.dlabel.nii, or run fMRIPrep with --output-spaces "
            "MNI152NLin6Asym"
        )
    needed = any(name.endswith(IMAGES) and not name.endswith(".ptseries.nii") for name in names)
    return find_image(atlas, labels) if needed else None


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


def _describe(info: CohortInfo, folder: Path, source: str, atlas: Atlas) -> CohortInfo:
    path = folder / "cohort.yaml"
    if path.is_file():  # the user may have changed it
        return read_cohort_yaml(path)
    name = folder.resolve().name if info.name == "BIDS" else info.name
    text = info.description or f"This scan is from the study {name}."
    info = dataclasses.replace(info, name=name, description=text, source=source, atlas=atlas.name)
    write_info(folder, info)
    return info


def _summary(made: Cohort, counts: tuple[int, int, int, int], people: People) -> None:
    """Print what was made.

    ``counts``: scans found, scans that were not done yet, failures, labelled rows without a scan.
    """
    from rich.console import Console

    facts = made.store.extra("facts")
    noted = sum(bool(json.loads(text)["notes"]) for text in facts) if facts is not None else 0
    found, todo, failed, left = counts
    labels = f"; {left} rows of samples.tsv belong to no sample, kept" if left else ""
    matched = f"{people.summary}; " if people.summary else ""
    Console(stderr=True).print(
        f"{found} scans found, {todo - failed} prepared now, {failed} failed; {matched}"
        f"{len(made)} samples of {made.table['subject_id'].nunique()} subjects in "
        f"{made.store.path}; {noted} with notes (scans.tsv); look at "
        f"{made.folder / 'qc.html'}{labels}",
        soft_wrap=True,
        highlight=False,
    )
