"""Generated descriptions of held-out scans, against what was measured in the scans.

Beside them stand texts that do not look at the scan: that of the average training scan, the
training text that is most often true of others, the model's own text on another person's scan; and
one that looks without a language model: measures by ridge from the scan, worded by the grammar.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fmrilm.evaluation.controls import shuffle_scans
from fmrilm.evaluation.descriptions.claims import claim_statistics
from fmrilm.evaluation.descriptions.embedding import (
    TextStates,
    bert_score,
    installed_encoder,
    sentence_similarity,
)
from fmrilm.evaluation.descriptions.references import average_text, read_measured, typical_text
from fmrilm.evaluation.descriptions.text import MAX_N, Statistics, overlap_statistics
from fmrilm.evaluation.descriptions.worded import ridge_texts
from fmrilm.evaluation.questions import site_of
from fmrilm.evaluation.results import BASELINE, CONTROL, MODEL, Predictor
from fmrilm.files import plain_cells
from fmrilm.stats.classification import Metric
from fmrilm.stats.intervals import Answers, differences, estimates, score_samples
from fmrilm.tasks import TASKS, build_prompt

if TYPE_CHECKING:
    from fmrilm.config.schema import Config
    from fmrilm.evaluation.options import EvaluationOptions
    from fmrilm.evaluation.scoring import Scorer

TASK = "describe"
N_SHUFFLES = 3
PRIMARY, WITHOUT_Z = "z_r", "deviation"  # the second where the true texts state no z
CONSTANT = ("average", "typical")  # texts that are the same for every scan
SHOWN = {
    "z_r": "r of z",
    "deviation": "deviations right",
    "direction": "direction right",
    "z_near": "z within 0.5",
    "supported": "supported",
    "rouge_l": "ROUGE-L",
}
ROLES = {
    "model": (MODEL, "fMRI-LM"),
    "average": (BASELINE, "text of the average scan"),
    "typical": (BASELINE, "most typical training text"),
    "ridge": (BASELINE, "ridge from the scan, worded"),
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
    readings: dict[str, Any] = field(default_factory=dict)  # of these test people
    primary: str = PRIMARY  # the score that is compared

    @property
    def best_constant(self) -> str:
        """The text that is the same for every scan and has the highest score on these scans."""
        scores = {name: self.predictors[name].metrics[self.primary].value for name in CONSTANT}
        return max(scores, key=lambda name: np.nan_to_num(scores[name], nan=-np.inf))

    @property
    def scan_adds(self) -> bool:
        """Whether the texts are clearly truer than those on others' scans and the best constant."""
        rivals = ("shuffled", self.best_constant)
        return all(self.predictors[name].difference[self.primary].low > 0 for name in rivals)

    @property
    def verdict(self) -> str:
        """Whether a text is true of its own scan, in words with the paired differences."""
        told = []
        for name in ("shuffled", self.best_constant):
            gain, title = self.predictors[name].difference[self.primary], ROLES[name][1]
            if np.isnan(gain.low):
                told.append(f"no difference to the {title} ({gain.reason})")
            else:
                ends = f"[{gain.low:+.3f}, {gain.high:+.3f}]"
                told.append(f"{gain.value:+.3f} {ends} over the {title}")
        start = "truer of its own scan" if self.scan_adds else "no truer of its own scan, for sure,"
        rivals = "than of another's and than the best constant text"
        return f"the text is {start} {rivals}: {SHOWN[self.primary]} {' and '.join(told)}"

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into ``descriptions.json``."""
        plain = {n: v for n, v in vars(self).items() if n not in ("predictors", "rows")}
        predictors = {name: found.to_dict() for name, found in self.predictors.items()}
        told = {"scan_adds": self.scan_adds, "verdict": self.verdict}
        return {**plain, **told, "predictors": predictors}


def describe_scans(
    scorer: Scorer,
    config: Config,
    options: EvaluationOptions,
    advance: Callable[[int], None] = lambda count: None,
) -> DescriptionResult:
    """Return the scores of a model's descriptions of the held-out scans of one cohort.

    Parameters
    ----------
    scorer : Scorer
    config : Config
        Of the run: which families are the truth, and how long a text is.
    options : EvaluationOptions
    advance : callable
    """
    split, seed = options.scored_split, options.seed
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
        "ridge": [ridge_texts(measured, cohort, rows, scorer.num_timestamp)],
        "shuffled": [
            [texts[i] for i in shuffle_scans(subjects, site_of(table), seed + repeat)]
            for repeat in range(N_SHUFFLES)
        ],
    }
    measures, truths = measured.rows(rows), measured.texts.iloc[rows].tolist()
    likeness = Likeness(options.text_model)
    statistics = {
        name: [
            _statistics(one, truths, measures, measured.place_names, likeness)
            for one in repetitions
        ]
        for name, repetitions in told.items()
    }
    own = statistics["model"][0]
    true = claim_statistics(truths, measures, measured.place_names)
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
        _compare(statistics, subjects),
        constant,
        pd.concat([per_scan, columns], axis=1),
        primary=PRIMARY if true["z_n"].sum() > 2 else WITHOUT_Z,
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


def _compare(statistics: dict[str, list[Statistics]], subjects: np.ndarray) -> dict[str, Predictor]:
    labels = np.zeros(len(subjects))
    answers = {
        name: Answers(np.stack([one.values for one in found]), np.zeros((len(found), len(labels))))
        for name, found in statistics.items()
    }
    metrics = description_metrics(statistics["model"][0])
    samples = score_samples(answers, labels, subjects, metrics)
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
    plain_cells(rows).to_csv(folder / "descriptions.csv", index=False, float_format="%.6g")
