"""``fmrilm describe``: the text descriptors of a cohort, fitted on its training scans only.

Writes ``descriptors_rewritten/<family>_descriptors.csv`` (subject_id, session_id, every measure,
``<measure>_z``, ``summary``) and, beside it, ``<family>_reference.npz`` (what was learned from the
training scans) and ``<family>_provenance.jsonl`` (the facts behind every sentence).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fmrilm.cohort.cohort import DESCRIPTOR_FOLDER, Cohort
from fmrilm.cohort.store import TimeSeriesStore
from fmrilm.description.measure import Scans, fit_template, measure_cohort, save_arrays
from fmrilm.description.reword import reword_texts
from fmrilm.descriptors import DESCRIPTORS, Descriptor
from fmrilm.errors import InputError
from fmrilm.files import plain_cells, replacing
from fmrilm.hashing import digest, hash_code
from fmrilm.locks import writing
from fmrilm.readers import read_arrays, reading


def describe(
    folder: Path | None = None,
    *,
    data: Path | None = None,
    types: str = "fc",
    jobs: int = 0,
    seed: int = 0,
    paraphrases: int = 1,
    refresh: bool = False,
    gallery: int = 2,
    rewriter: str = "",
    state: Path | None = None,
) -> None:
    """Write the text descriptors of a cohort.

    Templates and the distribution behind every z are learned from the training scans only. A run
    that was interrupted goes on where it stopped; a family that is complete is not made again.

    Parameters
    ----------
    folder : path
        The cohort's folder, with data_resampled.h5 and participants.tsv.
    data : path
        The same, as an option.
    types : str
        Families, separated by commas.
    jobs : int
        Worker processes; 0 takes one per core.
    seed : int
        Of the wording, and of the families that need one.
    paraphrases : int
        Wordings per scan: `summary`, then `summary_2` and so on.
    refresh : bool
        Make everything again, also what is complete.
    gallery : int
        Scans shown in gallery.html, figures beside sentences; 0 makes none.
    rewriter : str
        A Hugging Face model or folder, or URL#MODEL of an OpenAI-compatible endpoint (its key in
        FMRILM_REWRITER_KEY), that rewords the texts; a wording that changes a fact is not used.
    state : path
        Folder for the texts if the cohort's is not ours to write to (data.state_dir/COHORT).

    Raises
    ------
    FileNotFoundError
        If the cohort's files are missing.
    InputError
        If a family is unknown or the training split is too small.

    Examples
    --------
    fmrilm describe data/UKB --types fc,gradient,graph,ica
    """
    place = folder or data
    if place is None or (folder and data):
        raise InputError("name one cohort folder: fmrilm describe FOLDER --types fc")
    if paraphrases < 1 or jobs < 0 or gallery < 0:
        raise InputError("--paraphrases must be at least 1, --jobs and --gallery at least 0")
    families = list(dict.fromkeys(name.strip() for name in types.split(",") if name.strip()))
    if not families:
        raise InputError(f"--types is empty; known families: {', '.join(sorted(DESCRIPTORS))}")
    classes = [DESCRIPTORS[name] for name in families]
    cohort = Cohort(place, state=state)
    atlas = cohort.atlas
    if not atlas.has_networks:
        raise InputError(
            f"the atlas {atlas.name} of {cohort.folder} has no networks: write an atlas.tsv with "
            "the columns label, name and network there"
        )
    options = _Options(jobs or os.cpu_count() or 1, seed, paraphrases, refresh, rewriter)
    with writing(cohort.writable("descriptions") / DESCRIPTOR_FOLDER):
        fitted = [_describe_family(cohort, family, options) for family in classes]
        if gallery:
            _write_gallery(cohort, fitted, gallery, seed)


DESCRIBE_AGAIN = "make it again with --refresh"


@dataclass(frozen=True)
class _Options:
    jobs: int
    seed: int
    paraphrases: int
    refresh: bool
    rewriter: str


def _describe_family(cohort: Cohort, family: type[Descriptor], options: _Options) -> Descriptor:
    """Write the files of one family, unless they are complete; return it fitted."""
    from rich.console import Console

    atlas = cohort.atlas
    descriptor = family(atlas.networks, t_r=cohort.store.t_r or 2.0, names=atlas.names)
    if "filtered" in descriptor.get_params():
        descriptor.set_params(filtered=is_filtered(cohort.store))
    output = cohort.writable("descriptions") / DESCRIPTOR_FOLDER
    key = _key(cohort, descriptor, options)
    table_path = output / f"{family.family}_descriptors.csv"
    reference_path = output / f"{family.family}_reference.npz"
    console = Console()
    if not options.refresh and _is_complete(table_path, reference_path, key):
        console.print(f"{family.family}: complete, nothing to do ({table_path})")
        with reading(reference_path, DESCRIBE_AGAIN):
            return descriptor.set_state(read_arrays(reference_path))
    parts = output / f".{family.family}_parts_{key}"
    if options.refresh:
        shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True, exist_ok=True)
    fit_template(cohort, descriptor, parts / "template.npz")
    measures = measure_cohort(cohort, descriptor, parts, options.jobs)
    descriptor.fit_distribution(measures[(cohort.table["split"] == "train").to_numpy()])
    _write(cohort, descriptor, measures, options, table_path, parts)
    state = {name: np.asarray(value) for name, value in descriptor.state().items()}
    save_arrays(reference_path, {**state, "key": np.asarray(key)})
    shutil.rmtree(parts)
    short = int((measures[descriptor.measure_names()].isna().all(axis=1)).sum())
    note = f", {short} with too little data" if short else ""
    if descriptor.get_params().get("filtered"):
        note += ", spectral measures withheld: the series were filtered"
    console.print(f"{family.family}: {len(measures)} scans{note} -> {table_path}")
    return descriptor


def is_filtered(store: TimeSeriesStore) -> bool:
    """Return whether `fmrilm prepare` filtered the series of a store in time."""
    settings = store.extra("preparation")
    return bool(settings and re.search(r"\b(?:high|low)_pass=\d", str(settings)))


def _write_gallery(cohort: Cohort, fitted: list[Descriptor], count: int, seed: int) -> None:
    from rich.console import Console

    from fmrilm.description.gallery import write_gallery

    held_out = np.flatnonzero(cohort.table["split"] != "train")[:count]
    chosen = held_out if len(held_out) else np.arange(min(count, len(cohort)))
    ids = [(cohort.store.subjects[i], cohort.store.sessions[i]) for i in chosen]
    series = Scans(cohort, chosen)
    scans = [(*names, scan) for names, scan in zip(ids, series, strict=True)]
    path = cohort.writable("descriptions") / DESCRIPTOR_FOLDER / "gallery.html"
    write_gallery(cohort, fitted, scans, path, seed)
    Console().print(f"gallery -> {path}")


def _key(cohort: Cohort, descriptor: Descriptor, options: _Options) -> str:
    """Return a hash of everything the table depends on."""
    data = cohort.fingerprints()
    facts = [hash_code("fmrilm.descriptors"), data["scans"], data["splits"], data["scaling"]]
    facts += [options.seed, options.paraphrases, options.rewriter]
    facts += [descriptor.family, repr(descriptor.get_params())]
    return digest(json.dumps(facts))


def _is_complete(table: Path, reference: Path, key: str) -> bool:
    if not (table.is_file() and reference.is_file()):
        return False
    return str(read_arrays(reference, ("key",), DESCRIBE_AGAIN)["key"]) == key


def _write(
    cohort: Cohort,
    descriptor: Descriptor,
    measures: pd.DataFrame,
    options: _Options,
    path: Path,
    parts: Path,
) -> None:
    """Write the table and the provenance of its sentences."""
    z = descriptor.z_scores(measures)
    told = descriptor.explain(measures, seed=options.seed)
    columns = {"summary": [" ".join(s.text for s in sentences) for sentences in told]}
    for n in range(2, options.paraphrases + 1):
        columns[f"summary_{n}"] = descriptor.describe(measures, seed=options.seed + n - 1)
    if options.rewriter:
        rows = pd.concat([measures, z], axis=1).to_dict("records")
        columns["summary_template"] = columns["summary"]
        columns["summary"] = reword_texts(
            columns["summary"], rows, descriptor, options.rewriter, parts
        )
    ids = cohort.table[["subject_id", "session_id"]].set_axis(measures.index)
    table = pd.concat([ids, measures, z, pd.DataFrame(columns, index=measures.index)], axis=1)
    with replacing(path) as partial:
        plain_cells(table).to_csv(partial, index=False)
    lines = path.with_name(f"{descriptor.family}_provenance.jsonl")
    with lines.open("w", encoding="utf-8") as handle:
        for (subject, session), sentences in zip(ids.itertuples(index=False), told, strict=True):
            entry = {"subject_id": subject, "session_id": session}
            facts = [{"text": s.text, "facts": [vars(f) for f in s.facts]} for s in sentences]
            handle.write(json.dumps({**entry, "sentences": facts}) + "\n")
