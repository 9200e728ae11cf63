"""What the model writes when asked to describe a scan, beside the text made from the scan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmrilm.tasks import TASKS, build_prompt

if TYPE_CHECKING:
    from fmrilm.config.schema import Config
    from fmrilm.evaluation.scoring import Scorer

MAX_DESCRIPTION_TOKENS = 120


def write_generations(
    folder: Path, scorers: Mapping[str, list[Scorer]], config: Config, split: str, samples: int
) -> list[dict[str, Any]]:
    """Write and return ``generations.json``: prompt, generated text and true text of a few scans.

    Parameters
    ----------
    folder : path
        Made if it does not exist.
    scorers : mapping
        Stage -> scorers, one per cohort; a run and the one it started from show side by side what
        training for short answers leaves of the descriptions.
    config : Config
        Of the run: which descriptor families are the truth, and whether the cohort is named.
    split : str
        The first scans of ``samples`` of its subjects are described.
    samples : int
    """
    found: list[dict[str, Any]] = []
    for stage, of_stage in scorers.items() if samples > 0 else ():
        for scorer in of_stage:
            found += _describe(stage, scorer, config, split, samples)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=2, ensure_ascii=False)
    (folder / "generations.json").write_text(text + "\n", encoding="utf-8")
    return found


def _describe(
    stage: str, scorer: Scorer, config: Config, split: str, samples: int
) -> list[dict[str, Any]]:
    cohort = scorer.cohort
    table = cohort.table.iloc[cohort.indices(split)].drop_duplicates("subject_id")
    rows = table.index.to_numpy()[:samples]
    sentence = cohort.info.description if config.instruct.add_src_info else ""
    prompt = build_prompt(TASKS["describe"], 0, sentence)
    texts = scorer.texts(np.asarray(rows), [prompt] * len(rows), MAX_DESCRIPTION_TOKENS)
    truths, missing = _truths(scorer, config)
    return [
        {
            "stage": stage,
            "cohort": cohort.name,
            "synthetic": cohort.info.synthetic,
            "subject_id": str(table.loc[row, "subject_id"]),
            "session_id": str(table.loc[row, "session_id"]),
            "prompt": prompt,
            "generated": text,
            "truth": None if truths is None else truths[row],
            "note": missing,
        }
        for row, text in zip(rows, texts, strict=True)
    ]


def _truths(scorer: Scorer, config: Config) -> tuple[dict[int, str] | None, str]:
    """Return the true text of every scan, or None and the reason why there is none."""
    try:
        texts = scorer.cohort.descriptions(config.data.desc_type)
    except FileNotFoundError as error:
        return None, str(error)
    return {int(index): str(text) for index, text in texts.items()}, ""
