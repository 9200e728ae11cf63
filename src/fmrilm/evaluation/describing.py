"""Generated descriptions of held-out scans, against what was measured in the scans.

Beside them stand texts that do not look at the scan: that of the average training scan, the
training text that is most often true of others, and the model's own text on another person's scan.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fmrilm.evaluation.claim_metrics import claim_statistics
from fmrilm.evaluation.controls import shuffle_scans
from fmrilm.evaluation.intervals import Answers, differences, estimates, score_samples
from fmrilm.evaluation.measured import average_text, read_measured, typical_text
from fmrilm.evaluation.metrics import Metric
from fmrilm.evaluation.questions import site_of
from fmrilm.evaluation.results import BASELINE, CONTROL, MODEL, Predictor
from fmrilm.evaluation.text_embedding import (
    TextStates,
    bert_score,
    installed_encoder,
    sentence_similarity,
)
from fmrilm.evaluation.text_metrics import MAX_N, Statistics, overlap_statistics
from fmrilm.tasks import TASKS, build_prompt

if TYPE_CHECKING:
    from fmrilm.config import Config
    from fmrilm.evaluation.answering import Settings
    from fmrilm.evaluation.scoring import Scorer

TASK = "describe"
N_SHUFFLES = 3
PRIMARY = "direction"
SHOWN = {
    "direction": "direction right",
    "deviation": "deviations right",
    "z_near": "z within 0.5",
    "z_r": "r of z",
    "supported": "supported",
    "rouge_l": "ROUGE-L",
}
ROLES = {
    "model": (MODEL, "fMRI-LM"),
    "average": (BASELINE, "text of the average scan"),
    "typical": (BASELINE, "most typical training text"),
    "shuffled": (CONTROL, "text on another's scan"),
}


@dataclass(frozen=True)
class DescriptionResult:
    """Scores of the descriptions of one cohort, and one row per scan."""

    cohort: str
    synthetic: bool
    split: str
    n_scans: int
    n_subjects: int
    families: list[str]
    predictors: dict[str, Predictor]
    texts: dict[str, str]  # those that are the same for every scan
    rows: pd.DataFrame = field(repr=False)

    @property
    def scan_adds(self) -> bool:
        """Whether more directions are right than in the model's texts on other people's scans."""
        return bool(self.predictors["shuffled"].difference[PRIMARY].low > 0)

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into ``descriptions.json``."""
        plain = {n: v for n, v in vars(self).items() if n not in ("predictors", "rows")}
        predictors = {name: found.to_dict() for name, found in self.predictors.items()}
        return {**plain, "scan_adds": self.scan_adds, "predictors": predictors}


def describe_scans(
    scorer: Scorer,
    config: Config,
    settings: Settings,
    advance: Callable[[int], None] = lambda count: None,
) -> DescriptionResult:
    """Return the scores of a model's descriptions of the held-out scans of one cohort.

    Parameters
    ----------
    scorer : Scorer
    config : Config
        Of the run: which families are the truth, and how long a text is.
    settings : Settings
    advance : callable
    """
    split, seed = settings.split, settings.seed
    cohort = scorer.cohort
    measured = read_measured(cohort, config.data.desc_type)
    measured.check(cohort, split)
    rows = cohort.indices(split)
    rows = rows[(measured.texts.iloc[rows] != "").to_numpy()]
    sentence = cohort.info.description if config.instruct.add_src_info else ""
    prompts = [build_prompt(TASKS[TASK], 0, sentence)] * len(rows)
    texts = scorer.texts(rows, prompts, config.align.max_text_length + 1, advance)
    table = cohort.table.iloc[rows].reset_index(drop=True)
    subjects = table["subject_id"].to_numpy(dtype=str)
    constant = {
        "average": average_text(measured, cohort),
        "typical": typical_text(measured, cohort),
    }
    told = {
        "model": [texts],
        **{name: [[text] * len(rows)] for name, text in constant.items()},
        "shuffled": [
            [texts[i] for i in shuffle_scans(subjects, site_of(table), seed + repeat)]
            for repeat in range(N_SHUFFLES)
        ],
    }
    measures, truths = measured.rows(rows), measured.texts.iloc[rows].tolist()
    likeness = Likeness(settings.text_model)
    statistics = {
        name: [
            _statistics(one, truths, measures, measured.place_names, likeness)
            for one in repetitions
        ]
        for name, repetitions in told.items()
    }
    own = statistics["model"][0]
    per_scan = table[["subject_id", "session_id"]].assign(generated=texts, truth=truths)
    per_scan.insert(0, "cohort", cohort.name)
    columns = pd.DataFrame(own.values, columns=own.names).drop(columns="texts")
    return DescriptionResult(
        cohort.name,
        cohort.info.synthetic,
        split,
        len(rows),
        len(np.unique(subjects)),
        list(config.data.desc_type),
        _compare(statistics, subjects, settings.n_resamples, seed),
        constant,
        pd.concat([per_scan, columns], axis=1),
    )


class Likeness:
    """The encoders that compare texts by meaning: MiniLM if installed, another one if named."""

    def __init__(self, text_model: str | None = None) -> None:
        folder = installed_encoder()
        self.sentence = None if folder is None else TextStates(folder)
        self.words = None if text_model is None else TextStates(text_model)

    def __call__(self, texts: list[str], truths: list[str]) -> dict[str, np.ndarray]:
        """Return the likeness of each pair of texts, by name."""
        found = {}
        if self.sentence is not None:
            found["minilm"] = sentence_similarity(self.sentence, texts, truths)
        if self.words is not None:
            found["bertscore"] = bert_score(self.words, texts, truths)
        return found


def _statistics(
    texts: list[str],
    truths: list[str],
    measures: list[dict[str, Any]],
    place_names: dict[str, str],
    likeness: Likeness,
) -> Statistics:
    return Statistics(
        {
            "texts": np.ones(len(texts)),
            **claim_statistics(texts, measures, place_names),
            **overlap_statistics(texts, truths),
            **likeness(texts, truths),
        }
    )


def description_metrics(found: Statistics) -> dict[str, Metric]:
    """Return the metrics of descriptions by name, those shown first."""
    shares = {
        "direction": ("directions_right", "directions"),
        "deviation": ("deviations_right", "deviations"),
        "z_near": ("z_near", "z_n"),
        "supported": ("supported", "claims"),
        "contradicted": ("contradicted", "claims"),
        "unverifiable": ("unverifiable", "claims"),
        "claims_per_text": ("claims", "texts"),
    }
    means = [n for n in ("rouge_l", "meteor", "cider", "minilm", "bertscore") if n in found.names]
    metrics = {name: found.ratio(*columns) for name, columns in shares.items()}
    metrics["z_r"] = found.correlation("z")
    metrics |= {f"bleu_{n + 1}": found.bleu(n + 1) for n in range(MAX_N)}
    titles = {"meteor": "meteor_exact_stem", "cider": "cider_d"}
    return metrics | {titles.get(name, name): found.ratio(name, "texts") for name in means}


def _compare(
    statistics: dict[str, list[Statistics]], subjects: np.ndarray, n_resamples: int, seed: int
) -> dict[str, Predictor]:
    labels = np.zeros(len(subjects))
    answers = {
        name: Answers(np.stack([one.values for one in found]), np.zeros((len(found), len(labels))))
        for name, found in statistics.items()
    }
    metrics = description_metrics(statistics["model"][0])
    samples = score_samples(answers, labels, subjects, metrics, n_resamples, seed)
    predictors = {}
    for name, (role, title) in ROLES.items():
        found = estimates(samples[name], labels, subjects, [])
        gap = {}
        if name != "model":
            gap = differences(samples["model"], samples[name], labels, subjects, [])
        predictors[name] = Predictor(role, title, found, gap)
    return predictors


def write_descriptions(folder: Path, results: list[DescriptionResult]) -> None:
    """Write ``descriptions.json`` and ``descriptions.csv`` (one row per scan)."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps([result.to_dict() for result in results], indent=2, ensure_ascii=False)
    (folder / "descriptions.json").write_text(text + "\n", encoding="utf-8")
    rows = pd.concat([result.rows for result in results], ignore_index=True)
    rows.to_csv(folder / "descriptions.csv", index=False, float_format="%.6g")
