"""Synthetic stand-ins for the seven cohorts, with planted effects of known size.

Nothing measured on them says anything about people: they show whether code finds what is there.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fmrilm.atlases.atlas import Atlas
from fmrilm.cohort.cohort import STORE_FILE, write_info
from fmrilm.cohort.labels import write_table
from fmrilm.cohort.splits import split_subjects
from fmrilm.cohort.store import write_store
from fmrilm.datasets.synthetic.calibration import Meter, Planting, measured_d
from fmrilm.datasets.synthetic.dynamics import (
    add_dynamics,
    draw_properties,
    measure_dynamics,
    oracle_auc,
)
from fmrilm.datasets.synthetic.effects import EFFECTS
from fmrilm.datasets.synthetic.signal import (
    SIGNALS,
    T_R,
    Person,
    Scanner,
    draw_fd,
    draw_mean_fd,
    group_covariance,
)
from fmrilm.errors import InputError
from fmrilm.files import replacing
from fmrilm.locks import check_kind, writing
from fmrilm.progress import track
from fmrilm.readers import read_json
from fmrilm.registry import Registry
from fmrilm.studies.known import COHORTS

ATLAS = "schaefer400_tianS3"
EFFECTS_FILE = "planted_effects.json"


@dataclass(frozen=True)
class Recipe:
    """The arguments of :func:`simulate`, which say all about a cohort."""

    cohort: str
    subjects: int
    seed: int
    timepoints: int
    effect: str | None
    preset: str


@dataclass(frozen=True)
class Plan:
    """Who is in a synthetic cohort."""

    age: tuple[float, float, float, float]  # mean, SD, lowest, highest (years)
    phenotypes: tuple[str, ...]  # beside age, sex, site and mean_fd
    sites: int = 1
    two_sessions: float = 0.0  # share of the subjects
    cases: float = 0.5  # share of the positive diagnosis
    fd: float = 0.15  # median framewise displacement in mm


@dataclass(frozen=True)
class Preset:
    """How a cohort is made, whoever is in it."""

    signal: str = "second"  # an entry of SIGNALS
    size: float = 1.0  # of all effects, as a share
    confounded: bool = False  # whether a site's noise goes with the first target


PRESETS: Registry[Preset] = Registry("preset")
for _name, _preset in {
    "standard": Preset(),
    "first": Preset(signal="first"),
    "small": Preset(size=0.3),
    "confounded": Preset(confounded=True),
}.items():
    PRESETS.register(_name)(_preset)
CONFOUNDED = 0.8  # share of the positive people whose site is a noisy one, and of the others not
SITE_NOISE = 0.6  # standard deviation of what a noisy site adds, in those of a region

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
    effect: str | None = None,
    preset: str = "standard",
) -> Path:
    """Write a synthetic cohort: 450 regions, TR 2 s, planted effects of known size.

    The effects are listed in ``planted_effects.json``: the size that was planted, which is the one
    to be expected in scans of this length, and the size found in this cohort. The same arguments
    give the same files. With ``effect`` the people are two groups, ``group`` is what is asked, and
    the file says how well each kind of effect tells them where it was planted.

    Parameters
    ----------
    folder : str, optional
        The cohort folder to write; None: ``data/synthetic/<cohort>``.
    cohort : str
        Which of the seven cohorts to imitate: UKB, ABCD, HCP, HCP-Aging, ADNI, ADHD200, ABIDE2.
    subjects : int
        Number of people; some have two sessions.
    seed : int
        Random seed.
    timepoints : int
        Volumes per scan.
    effect : str, optional
        What tells the groups: fc (coupling of networks), or what connectivity cannot show: lag (who
        leads whom), switching (how long coupling keeps its sign), reversal (events that rise fast
        and fade slowly, or the other way round), burst (fluctuation that waxes and wanes); mixed:
        half of lag and half of reversal.
    preset : str
        standard; first (the signal of the first simulator: flatter spectra, stronger motion), small
        (effects of a third of the size), or confounded (a site's noise goes with the label).

    Returns
    -------
    folder : Path

    Raises
    ------
    InputError
        If the cohort, effect or preset is unknown, there are fewer than 10 subjects or 20 time
        points, or the folder holds another cohort.

    Examples
    --------
    fmrilm simulate --cohort UKB --subjects 200 --seed 0
    fmrilm simulate data/lag --effect lag --subjects 600
    """
    _ = PLANS[cohort], PRESETS[preset]  # an unknown one is refused before anything is made
    if subjects < 10 or timepoints < 20:
        raise InputError("a synthetic cohort needs at least 10 subjects and 20 time points")
    name = cohort if effect is None else f"effect-{effect}"
    target = Path(folder) if folder else Path("data/synthetic") / name
    recipe = Recipe(cohort, subjects, seed, timepoints, effect, preset)
    check_kind(target, "cohort")
    _check_free(target, recipe)
    with writing(target):
        _write_effects(target, recipe)  # first, so that an interrupted simulation is known as one
        _simulate(target, name, recipe)
    return target


def _check_free(target: Path, recipe: Recipe) -> None:
    """Raise :class:`InputError` if a folder holds another cohort than the one to be made."""
    if not (target / STORE_FILE).exists():
        return
    planted = target / EFFECTS_FILE
    if planted.is_file() and read_json(planted, "delete it").get("made_by") == asdict(recipe):
        return
    kind = "another synthetic cohort" if planted.is_file() else "a cohort that was not simulated"
    raise InputError(f"{target} holds {kind}: give another folder, or delete it first")


def _write_effects(target: Path, recipe: Recipe, **told: object) -> None:
    content = {"synthetic": True, "made_by": asdict(recipe), **told}
    with replacing(target / EFFECTS_FILE) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _simulate(target: Path, name: str, recipe: Recipe) -> None:
    cohort, subjects, seed, timepoints, effect, _ = dataclasses.astuple(recipe)
    plan, chosen = PLANS[cohort], PRESETS[recipe.preset]
    atlas = Atlas.load(ATLAS)
    covariance, origin = group_covariance(atlas)
    source = f"SYNTHETIC: made by fmrilm simulate, seed {seed}; base covariance: {origin}"
    root = np.random.SeedSequence([seed, zlib.crc32(cohort.encode())])
    people, *seeds = root.spawn(subjects + 1)
    participants, scores = draw_participants(cohort, plan, subjects, np.random.default_rng(people))
    if effect is not None:
        draw = np.random.default_rng(root.spawn(1)[0])
        participants["group"] = draw.permutation(subjects) % 2
    if chosen.confounded:
        confound_sites(participants, "group" if effect else COHORTS[cohort].targets[0])

    sites = np.random.default_rng(zlib.crc32(cohort.encode()))
    site_terms = {
        name: (float(np.exp(0.15 * sites.standard_normal())), 800 * float(sites.standard_normal()))
        for name in sorted(participants["site"].unique())
    }
    scanner = Scanner(atlas, covariance, timepoints, SIGNALS[chosen.signal])
    planting = Planting.calibrate(scanner, atlas, plan.fd)
    meter = Meter(atlas)
    seen: list[dict[str, float]] = []
    rows: list[dict[str, object]] = []

    def scans() -> Iterator[tuple[str, str, np.ndarray]]:
        order = track(range(subjects), f"simulating {cohort}", subjects)
        for index in order:
            rng = np.random.default_rng(seeds[index])
            someone = participants.iloc[index]
            shifts = planting.shifts(
                {name: chosen.size * float(v[index]) for name, v in scores.items()}
            )
            person = Person.draw(shifts, len(atlas), scanner.signal, rng)
            motion = float(someone["mean_fd"])
            if effect is not None:
                properties = draw_properties(effect, bool(someone["group"]), rng, chosen.size)
            for session in range(1, 2 + int(rng.random() < plan.two_sessions)):
                clean = scanner.scan(person, rng)
                if effect is not None:
                    clean = add_dynamics(clean, scanner, properties, effect, rng)
                slope = float(person.slope.mean())
                clean = clean + scanner.global_signal(slope, motion / plan.fd, rng)
                if chosen.confounded and someone["site"] in noisy_sites(participants):
                    clean = clean + SITE_NOISE * rng.standard_normal(clean.shape)
                fd = draw_fd(motion, timepoints, rng)
                raw = scanner.intensities(clean, site_terms[someone["site"]], fd, rng)
                if session == 1:
                    meter.measure(raw)
                    if effect is not None:
                        seen.append(measure_dynamics(raw, scanner.network))
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
    info = dataclasses.replace(COHORTS[cohort], t_r=T_R, synthetic=True, source=source)
    if effect is not None:
        about = f"People of two groups that differ in their brain dynamics ({effect})."
        info = dataclasses.replace(info, name=name, targets=["group"], description=about)
    stratify = [column for column in (*info.targets, "site") if column in participants]
    write_table(split_subjects(participants, stratify, seed=seed), target / "splits.tsv")
    write_info(target, info)
    effects = [
        {
            **asdict(planted),
            "d": chosen.size * planted.d,
            "measured_d": measured_d(planted, meter, scores, participants["site"]),
        }
        for planted in EFFECTS
        if planted.phenotype in scores
    ]
    told: dict[str, object] = {"effects": effects}
    if effect is not None:
        told |= {"effect": effect, "oracle_auc": oracle_auc(seen, participants["group"])}
    _write_effects(target, recipe, **told)


def noisy_sites(participants: pd.DataFrame) -> list[str]:
    """Return every other site: those whose scanner is noisy in a confounded cohort."""
    return sorted(participants["site"].unique())[1::2]


def confound_sites(participants: pd.DataFrame, label: str) -> None:
    """Move people between sites, in place, so that most of the positive ones are at noisy sites."""
    codes = participants[label].rank(method="dense")
    positive = (codes > codes.min()).to_numpy()
    noisy = noisy_sites(participants)
    quiet = [name for name in sorted(participants["site"].unique()) if name not in noisy]
    if not noisy:
        raise InputError("preset confounded needs a cohort of several sites: take UKB or ABIDE2")
    rank = np.zeros(len(participants))
    for group in (positive, ~positive):
        rank[group] = (np.arange(group.sum()) + 0.5) / group.sum()
    at_noisy = np.where(positive, rank < CONFOUNDED, rank >= CONFOUNDED)
    participants["site"] = [
        (noisy if there else quiet)[i % len(noisy if there else quiet)]
        for i, there in enumerate(at_noisy)
    ]


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
