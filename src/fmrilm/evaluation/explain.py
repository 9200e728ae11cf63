"""`fmrilm explain`: the regions and networks an answer rests on, as table, NIfTI and picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fmrilm.errors import InputError
from fmrilm.evaluation.attribution import (
    RegionMap,
    Target,
    integrated_gradients,
    log_odds,
    occlusion,
    randomise_weights,
    reference_scan,
)
from fmrilm.evaluation.brain_picture import draw_map
from fmrilm.evaluation.questions import Question, prompts_for, select, tasks_of
from fmrilm.evaluation.runs import note_reading, open_cohorts, open_run
from fmrilm.evaluation.scoring import Scorer, check_shape
from fmrilm.registry import suggest

if TYPE_CHECKING:
    from fmrilm.data.cohort import Cohort

BATCH = 4


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
) -> pd.DataFrame:
    """Show which regions and networks the answers of a run rest on.

    Writes ``regions.tsv`` (each region's share of the difference in log-odds between the groups,
    by integrated gradients), ``networks.tsv`` (also what is lost when a network is taken away),
    ``attribution.png``, ``attribution.json`` (completeness; likeness to the map of the model with
    its weights shuffled, which should be near zero) and, with a label image, a NIfTI.

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
        At most this many scans, evenly from the answer's group and the rest.
    steps : int
        Points on the path of the integrated gradients.
    answer : str, optional
        Which answer's log-odds; without it the task's last.
    labels_img : str, optional
        NIfTI of the atlas whose voxel values are the region labels.
    output : str, optional
        Folder; without it <run>/explanation_<task>.

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
    names = question.task.candidates
    if not question.task.classes:
        raise InputError(f"task {question.task.name!r} asks for a number: name one with answers")
    if answer is not None and answer not in names:
        raise InputError(f"unknown answer {answer!r}{suggest(answer, names)}; one of: {names}")
    index = names.index(answer) if answer is not None else len(names) - 1
    rows = pick(question, index, samples)
    model = opened.load_model()
    prompt = prompts_for(question, opened.config)[0]
    scorer = Scorer(model, cohort, vq.num_timestamp, length=length)
    found, facts = explain_rows(model, scorer, question, rows, prompt, index, steps)
    folder = Path(output) if output else opened.folder / f"explanation_{question.task.name}"
    folder.mkdir(parents=True, exist_ok=True)
    if split == "test":
        note_reading(opened, [f"{cohort.name}:{question.task.name}"])
    table = region_table(cohort, found)
    networks = network_table(table, facts.pop("occlusion"))
    table.to_csv(folder / "regions.tsv", sep="\t", index=False, float_format="%.6g")
    networks.to_csv(folder / "networks.tsv", sep="\t", index=False, float_format="%.6g")
    facts = {"cohort": cohort.name, "synthetic": cohort.info.synthetic, **facts}
    facts |= {"task": question.task.name, "answer": names[index], "split": split}
    text = json.dumps(facts, indent=2)
    (folder / "attribution.json").write_text(text + "\n", encoding="utf-8")
    tag = "SYNTHETIC " if cohort.info.synthetic else ""
    title = f"{tag}{cohort.name} · {question.task.name}: what speaks for {names[index]}"
    draw_map(folder / "attribution.png", cohort.atlas, found.contrast, networks, title)
    if labels_img is not None:
        write_nifti(Path(labels_img), table, folder / "attribution.nii.gz")
    print(networks.to_string(index=False, float_format="%.3f"))
    print(f"likeness to the map with shuffled weights: {facts['randomised_correlation']:.2f}")
    print(f"explanation in {folder}")
    return table


def pick(question: Question, index: int, samples: int) -> np.ndarray:
    """Return positions of scans, evenly from people with the answer and people without."""
    has = question.labels == index
    chosen = []
    for value in (True, False):
        positions = pd.Series(np.flatnonzero(has == value))
        turn = positions.groupby(question.subjects[positions]).cumcount()  # everybody's first first
        chosen.append(positions[turn.argsort(kind="stable")].to_numpy()[: max(2, samples // 2)])
    for part in chosen:
        if len(np.unique(question.subjects[part])) < 2:
            raise InputError(
                f"{question.cohort.name}: the {question.split} split has fewer than two people in "
                f"one of the groups of {question.task.name!r}; explain another split"
            )
    return np.concatenate(chosen)


def explain_rows(
    model: Any,
    scorer: Scorer,
    question: Question,
    rows: np.ndarray,
    prompt: str,
    index: int,
    steps: int,
) -> tuple[RegionMap, dict[str, Any]]:
    """Return the region map, and completeness, sanity check and occlusion by network."""
    from scipy.stats import spearmanr

    candidates = question.task.candidates
    has, subjects = question.labels[rows] == index, question.subjects[rows]
    scans, masks = (part.numpy() for part in scorer.batch(question.rows[rows].tolist()))
    references = np.stack(
        [
            reference_scan(scan, int(r), model.tokenizer.config.roi_profile)
            for scan, r in zip(scans, rows, strict=True)
        ]
    )
    networks = _networks(question.cohort)

    def shares(target: Target) -> tuple[np.ndarray, np.ndarray]:
        parts = [
            integrated_gradients(
                target, scans[s : s + BATCH], masks[s : s + BATCH], references[s : s + BATCH], steps
            )
            for s in range(0, len(rows), BATCH)
        ]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    target = log_odds(model, prompt, candidates, index)
    found, change = shares(target)
    found_map = RegionMap.from_shares(found, has, subjects)
    shuffled, _ = shares(log_odds(randomise_weights(model), prompt, candidates, index))
    other = RegionMap.from_shares(shuffled, has, subjects)
    lost = {name: np.zeros(0) for name in networks}
    for s in range(0, len(rows), BATCH):
        part = occlusion(target, scans[s : s + BATCH], masks[s : s + BATCH], networks)
        lost = {name: np.concatenate([lost[name], part[name]]) for name in networks}
    likeness = spearmanr(found_map.contrast, other.contrast).statistic
    size = np.abs(change).mean()
    return found_map, {
        "n_scans": len(rows),
        "completeness_error": float(np.abs(found.sum(1) - change).mean() / max(size, 1e-12)),
        "randomised_correlation": float(np.nan_to_num(likeness)),
        "occlusion": {
            name: float(values[has].mean() - values[~has].mean()) for name, values in lost.items()
        },
    }


def _networks(cohort: Cohort) -> dict[str, np.ndarray]:
    atlas = cohort.atlas
    return {name: atlas.members(name) for name in atlas.network_names}


def region_table(cohort: Cohort, found: RegionMap) -> pd.DataFrame:
    """Return one row per region, most telling first."""
    atlas = cohort.atlas
    table = pd.DataFrame(
        {
            "label": atlas.labels,
            "name": atlas.names,
            "network": atlas.networks,
            "contrast": found.contrast,
            "z": found.z,
        }
    )
    return table.sort_values("contrast", ascending=False, kind="stable").reset_index(drop=True)


def network_table(regions: pd.DataFrame, lost: dict[str, float]) -> pd.DataFrame:
    """Return one row per network: share of all contrast, mean per region, loss when taken away."""
    total = float(regions["contrast"].sum())
    groups = regions[regions["network"] != ""].groupby("network")["contrast"]
    table = pd.DataFrame({"regions": groups.size(), "mean": groups.mean(), "sum": groups.sum()})
    table["share"] = table["sum"] / total if abs(total) > 1e-12 else np.nan
    table["lost_without"] = [lost.get(name, np.nan) for name in table.index]
    return table.sort_values("mean", ascending=False).reset_index()


def write_nifti(labels_img: Path, regions: pd.DataFrame, path: Path) -> None:
    """Write each region's contrast into its voxels.

    Raises
    ------
    FileNotFoundError
        If there is no label image.
    InputError
        If the image has none of the atlas' labels.
    """
    if not labels_img.is_file():
        raise FileNotFoundError(f"{labels_img} not found: give the label image of the atlas")
    import nibabel

    image = nibabel.Nifti1Image.from_filename(labels_img)
    labels = np.asarray(image.dataobj).astype(int)
    filled = np.zeros(labels.shape, dtype=np.float32)
    hits = 0
    for label, value in zip(regions["label"], regions["contrast"], strict=True):
        voxels = (labels == int(label)) & (labels != 0)  # 0 is outside the brain
        hits += bool(voxels.any())
        filled[voxels] = value
    if hits == 0:
        raise InputError(f"{labels_img} has none of the atlas' region labels")
    nibabel.save(nibabel.Nifti1Image(filled, image.affine), path)
