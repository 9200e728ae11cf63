"""`fmrilm explain`: the regions and networks an answer rests on, as table, NIfTI and picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmrilm.errors import InputError
from fmrilm.evaluation.questions import Question, prompts_for, select, tasks_of
from fmrilm.evaluation.readings import note_reading
from fmrilm.evaluation.runs import open_cohorts, open_run
from fmrilm.evaluation.scoring import Scorer, check_shape
from fmrilm.explanation.answers import Contrast, contrast_of
from fmrilm.explanation.attribution import randomise_weights
from fmrilm.explanation.brain_picture import draw_map
from fmrilm.explanation.connections import (
    pairs_of_networks,
    planted_pairs,
    recovery,
    recovery_line,
)
from fmrilm.explanation.maps import explain_connections, explain_regions, read_group
from fmrilm.explanation.tables import network_table, region_table, write_nifti
from fmrilm.files import write_array

SHOWN = 10  # pairs of networks that are printed
DIGITS = "%.9g"  # in the files: shares still add up to 1 when they are read again
LARGE_ERROR = 0.1  # of shares that should add up to the change


def explain(
    run: str,
    *,
    task: str | None = None,
    dataset: str | None = None,
    split: str = "test",
    samples: int = 64,
    steps: int = 16,
    answer: str | None = None,
    labels_img: str | None = None,
    output: str | None = None,
    device: str = "auto",
) -> pd.DataFrame:
    """Show which regions and networks the answers of a run rest on.

    What is explained are the log-odds of an answer, between people with and without it; of a number
    the predicted value, between scans above and below the median of the label.

    Writes ``regions.tsv`` (each region's share of the difference between the groups, by integrated
    gradients), ``networks.tsv`` (also what is lost when a network is taken away),
    ``attribution.png``, ``attribution.json`` (completeness; likeness to the map of the model with
    its weights shuffled, which should be near zero) and, with a label image, a NIfTI. Of a model
    that is given the connectivity also ``network_pairs.tsv`` and ``connections.npy``: the same for
    pairs of networks and single connections. On a synthetic cohort it is said how many of the
    planted pairs are found.

    Parameters
    ----------
    run : str
        Run folder of stage align or instruct.
    task : str, optional
        Without it the run's first task.
    dataset : str, optional
        Name or folder of the cohort; without it the run's first.
    split : str
        train, val or test.
    samples : int
        At most this many scans, evenly from both groups.
    steps : int
        Points on the path of the integrated gradients.
    answer : str, optional
        Which answer's log-odds; without it the task's last. Of a number: ``head`` explains what
        the head of the run says instead of its words.
    labels_img : str, optional
        NIfTI of the atlas whose voxel values are the region labels.
    output : str, optional
        Folder; without it <run>/explanation_<task>.
    device : str
        auto (a GPU if there is one), cpu, cuda, ...

    Returns
    -------
    DataFrame
        One row per region: label, name, network, contrast, z.

    Raises
    ------
    InputError
        If the answer is none of the task's, or a group has fewer than two people.

    Examples
    --------
    fmrilm explain runs/instruct --task sex
    """
    opened = open_run(run)
    cohort = open_cohorts(opened, dataset)[0]
    vq = opened.config.model.vq_model
    length = opened.config.data.length
    check_shape(cohort, vq.num_rois, vq.num_timestamp, length)
    question = select(cohort, tasks_of(cohort, opened.config, [task] if task else [])[0], split)
    contrast = contrast_of(question.task, question.labels, answer)
    rows = pick(question, contrast, samples)
    model = opened.load_model(device, "float32")
    prompt = prompts_for(question, opened.config)[0]
    scorer = Scorer(model, cohort, vq.num_timestamp, length=length)
    group = read_group(scorer, question, rows, contrast.first, vq.roi_profile)
    models = [model, randomise_weights(model)]
    targets = [contrast.target(each, prompt) for each in models]
    folder = Path(output) if output else opened.folder / f"explanation_{question.task.name}"
    folder.mkdir(parents=True, exist_ok=True)
    if split == "test":
        note_reading(cohort, [question.task.name], [opened.folder])

    atlas = cohort.atlas
    found, lost, facts = explain_regions(targets, group, atlas, steps)
    table = region_table(atlas, found)
    networks = network_table(table, lost)
    table.to_csv(folder / "regions.tsv", sep="\t", index=False, float_format=DIGITS)
    networks.to_csv(folder / "networks.tsv", sep="\t", index=False, float_format=DIGITS)
    print(networks.to_string(index=False, float_format="%.3f"))
    pairs = None
    if vq.roi_profile and atlas.network_names:
        tokenizers = [each.tokenizer for each in models]
        pairs, edges, more = explain_connections(targets, tokenizers, group, atlas, steps)
        pairs.to_csv(folder / "network_pairs.tsv", sep="\t", index=False, float_format=DIGITS)
        rows = np.stack([edges.contrast, edges.z]).astype(np.float32)
        write_array(folder / "connections.npy", rows)
        print(pairs.head(SHOWN).to_string(index=False, float_format="%.3f"))
        planted = planted_pairs(cohort, question.task.column)
        if planted:
            more["planted"] = recovery(pairs, edges.z, pairs_of_networks(atlas), planted)
            print(recovery_line(more["planted"]))
        facts["connections"] = more
    facts = {
        "cohort": cohort.name,
        "synthetic": cohort.info.synthetic,
        "task": question.task.name,
        "answer": contrast.answer,
        "explains": contrast.explains,
        "groups": contrast.groups,
        "split": split,
        "n_scans": len(rows),
        **facts,
    }
    text = json.dumps(facts, indent=2)
    (folder / "attribution.json").write_text(text + "\n", encoding="utf-8")
    tag = "SYNTHETIC " if cohort.info.synthetic else ""
    title = f"{tag}{cohort.name} · {question.task.name}: what speaks for {contrast.answer}"
    draw_map(folder / "attribution.png", atlas, found.contrast, networks, title, pairs)
    if labels_img is not None:
        write_nifti(Path(labels_img), table, folder / "attribution.nii.gz")
    print(f"{contrast.explains}: {contrast.groups}")
    for about, checks in (("regions", facts), ("connections", facts.get("connections"))):
        if checks is not None:
            print(f"{about}: {checks_line(checks)}")
    print(f"explanation in {folder}")
    return table


def checks_line(checks: dict[str, Any]) -> str:
    """Return what the checks of a map came to, and what to do about a sum that does not add up."""
    error = checks["completeness_error"]
    advice = "; more --steps make it smaller" if error > LARGE_ERROR else ""
    return (
        f"likeness to the map with shuffled weights {checks['randomised_correlation']:.2f}, "
        f"shares miss the change by {error:.0%} on average{advice}"
    )


def pick(question: Question, contrast: Contrast, samples: int) -> np.ndarray:
    """Return positions of scans, evenly from the people of both groups."""
    chosen = []
    for group in (contrast.first, contrast.second):
        positions = pd.Series(np.flatnonzero(group))
        turn = positions.groupby(question.subjects[positions]).cumcount()  # everybody's first first
        chosen.append(positions[turn.argsort(kind="stable")].to_numpy()[: max(2, samples // 2)])
    for part in chosen:
        if len(np.unique(question.subjects[part])) < 2:
            raise InputError(
                f"{question.cohort.name}: the {question.split} split has fewer than two people in "
                f"one of the groups of {question.task.name!r}; explain another split"
            )
    return np.concatenate(chosen)
