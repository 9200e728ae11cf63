"""Synthetic stand-ins for the seven cohorts, with planted effects of known size.

Nothing measured on them says anything about people: they show whether code finds what is there.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fmrilm.data.atlas import Atlas
from fmrilm.data.cohort import STORE_FILE, write_info, write_table
from fmrilm.data.cohorts import COHORTS
from fmrilm.data.progress import track
from fmrilm.data.splits import split_subjects
from fmrilm.data.store import write_store
from fmrilm.data.synthetic_effects import EFFECTS
from fmrilm.data.synthetic_measures import Meter, Planting, measured_d
from fmrilm.data.synthetic_signal import (
    T_R,
    Person,
    Scanner,
    draw_fd,
    draw_mean_fd,
    group_covariance,
)
from fmrilm.errors import InputError
from fmrilm.registry import Registry

ATLAS = "schaefer400_tianS3"


@dataclass(frozen=True)
class Plan:
    """Who is in a synthetic cohort."""

    age: tuple[float, float, float, float]  # mean, SD, lowest, highest (years)
    phenotypes: tuple[str, ...]  # beside age, sex, site and mean_fd
    sites: int = 1
    two_sessions: float = 0.0  # share of the subjects
    cases: float = 0.5  # share of the positive diagnosis
    fd: float = 0.15  # median framewise displacement in mm


PLANS: Registry[Plan] = Registry("cohort")
for _name, _plan in {
    "UKB": Plan((64, 8, 37, 87), ("fluidintel",), sites=3, two_sessions=0.1),
    "ABCD": Plan((10, 0.6, 9, 11), (), sites=5, two_sessions=0.2, fd=0.25),
    "HCP": Plan((29, 4, 22, 37), ("fluidintel",), two_sessions=0.3),
    "HCP-Aging": Plan((60, 15, 36, 100), ("fluidintel", "flanker"), sites=4),
    "ADNI": Plan(
        (73, 7, 55, 90), ("AD", "apoe4_enc", "av45_enc"), sites=6, two_sessions=0.3, cases=0.4
    ),
    "ADHD200": Plan((12, 3, 7, 22), ("ADHD",), sites=5, cases=0.45, fd=0.25),
    "ABIDE2": Plan((15, 8, 5, 64), ("ASD",), sites=8, cases=0.47, fd=0.2),
}.items():
    PLANS.register(_name)(_plan)


def simulate(
    folder: str | None = None,
    *,
    cohort: str = "UKB",
    subjects: int = 200,
    seed: int = 0,
    timepoints: int = 160,
) -> Path:
    """Write a synthetic cohort: 450 regions, TR 2 s, planted effects of known size.

    The effects are listed in ``planted_effects.json``: the size that was planted, which is the one
    to be expected in scans of this length, and the size found in this cohort. The same arguments
    give the same files.

    Parameters
    ----------
    folder : str, optional
        The cohort folder to write; None: ``data/<cohort>``.
    cohort : str
        Which of the seven cohorts to imitate: UKB, ABCD, HCP, HCP-Aging, ADNI, ADHD200, ABIDE2.
    subjects : int
        Number of people; some have two sessions.
    seed : int
        Of everything random.
    timepoints : int
        Volumes per scan.

    Returns
    -------
    folder : Path

    Raises
    ------
    InputError
        If the cohort is unknown, or there are fewer than 10 subjects or 20 time points.

    Examples
    --------
    fmrilm simulate --cohort UKB --subjects 200 --seed 0
    """
    plan = PLANS[cohort]
    if subjects < 10 or timepoints < 20:
        raise InputError("a synthetic cohort needs at least 10 subjects and 20 time points")
    target = Path(folder) if folder else Path("data") / cohort
    target.mkdir(parents=True, exist_ok=True)
    atlas = Atlas.load(ATLAS)
    covariance, origin = group_covariance(atlas)
    source = f"SYNTHETIC: made by fmrilm simulate, seed {seed}; base covariance: {origin}"
    root = np.random.SeedSequence([seed, zlib.crc32(cohort.encode())])
    people, *seeds = root.spawn(subjects + 1)
    participants, scores = draw_participants(cohort, plan, subjects, np.random.default_rng(people))

    sites = np.random.default_rng(zlib.crc32(cohort.encode()))
    site_terms = {
        name: (float(np.exp(0.15 * sites.standard_normal())), 800 * float(sites.standard_normal()))
        for name in sorted(participants["site"].unique())
    }
    scanner = Scanner(atlas, covariance, timepoints)
    planting = Planting.calibrate(scanner, atlas, plan.fd)
    meter = Meter(atlas)
    rows: list[dict[str, object]] = []

    def scans() -> Iterator[tuple[str, str, np.ndarray]]:
        order = track(range(subjects), f"simulating {cohort}", subjects)
        for index in order:
            rng = np.random.default_rng(seeds[index])
            someone = participants.iloc[index]
            shifts = planting.shifts({name: float(v[index]) for name, v in scores.items()})
            person = Person.draw(shifts, len(atlas), rng)
            for session in range(1, 2 + int(rng.random() < plan.two_sessions)):
                clean = scanner.scan(person, rng)
                fd = draw_fd(float(someone["mean_fd"]), timepoints, rng)
                raw = scanner.intensities(clean, site_terms[someone["site"]], fd, rng)
                if session == 1:
                    meter.measure(raw)
                name = f"ses-{session}"
                rows.append(
                    {
                        "participant_id": someone["participant_id"],
                        "session_id": name,
                        "mean_fd": round(float(fd.mean()), 4),
                    }
                )
                yield someone["participant_id"], name, raw

    write_store(
        target / STORE_FILE,
        scans(),
        t_r=T_R,
        atlas=ATLAS,
        roi_ids=atlas.labels,
        source=source,
    )
    write_table(participants, target / "participants.tsv")
    write_table(pd.DataFrame(rows), target / "samples.tsv")
    stratify = [name for name in (*COHORTS[cohort].targets, "site") if name in participants]
    write_table(split_subjects(participants, stratify, seed=seed), target / "splits.tsv")
    info = dataclasses.replace(COHORTS[cohort], t_r=T_R, synthetic=True, source=source)
    write_info(target, info)
    effects = [
        {
            **dataclasses.asdict(effect),
            "measured_d": measured_d(effect, meter, scores, participants["site"]),
        }
        for effect in EFFECTS
        if effect.phenotype in scores
    ]
    text = json.dumps({"synthetic": True, "seed": seed, "effects": effects}, indent=2)
    (target / "planted_effects.json").write_text(text + "\n", encoding="utf-8")
    return target


def draw_participants(
    cohort: str, plan: Plan, subjects: int, rng: np.random.Generator
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Return ``participants.tsv`` and the score of every phenotype, as the effects use it."""
    mean, sd, low, high = plan.age
    age = np.clip(mean + sd * rng.standard_normal(subjects), low, high)
    scores = {"age": (age - mean) / sd}
    female = rng.permutation(subjects) < subjects // 2
    scores["sex"] = np.where(female, 0.5, -0.5)
    width = max(4, len(str(subjects)))
    prefix = cohort.replace("-", "")
    table = pd.DataFrame(
        {
            "participant_id": [f"sub-{prefix}{i + 1:0{width}d}" for i in range(subjects)],
            "age": age.round(1),
            "sex": np.where(female, "F", "M"),
            "site": [f"site{i + 1}" for i in rng.integers(plan.sites, size=subjects)],
            # older people move a little more
            "mean_fd": (draw_mean_fd(plan.fd, rng, subjects) * np.exp(0.1 * scores["age"])).round(
                4
            ),
        }
    )
    for name in plan.phenotypes:
        if name in ("fluidintel", "flanker"):
            score = -0.3 * scores["age"] + np.sqrt(1 - 0.09) * rng.standard_normal(subjects)
            scores[name] = score
            centre, spread = (10.0, 3.0) if name == "fluidintel" else (100.0, 10.0)
            table[name] = (centre + spread * score).round(1)
            table[f"{name}_enc"] = np.digitize(score, [-1, 1])
        else:
            # APOE4 and amyloid go with the disease, and the disease with age
            liability = rng.standard_normal(subjects)
            if name == "AD":
                liability += 0.4 * scores["age"]
            elif "AD" in scores:
                liability += 1.2 * scores["AD"]
            positive = liability > np.quantile(liability, 1 - plan.cases)
            scores[name] = np.where(positive, 0.5, -0.5)
            table[name] = positive.astype(int)
    return table, scores
