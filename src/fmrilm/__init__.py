"""fmrilm: language-aligned fMRI models whose numbers can be believed.

``import fmrilm`` needs no torch: the public names are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Atlas": "fmrilm.atlases.atlas",
    "Cohort": "fmrilm.cohort.cohort",
    "Config": "fmrilm.config.schema",
    "FMRILM": "fmrilm.auto",
    "FMRILMClassifier": "fmrilm.sklearn",
    "FMRILMRegressor": "fmrilm.sklearn",
    "FMRILMTransformer": "fmrilm.sklearn",
    "FMRIPipeline": "fmrilm.asking.pipeline",
    "FMRIProcessor": "fmrilm.auto",
    "FMRITokenizer": "fmrilm.auto",
    "Task": "fmrilm.tasks.base",
    "TimeSeriesStore": "fmrilm.cohort.store",
    "audit": "fmrilm.checks.audit",
    "describe": "fmrilm.description.describe",
    "doctor": "fmrilm.checks.doctor",
    "evaluate": "fmrilm.evaluation.evaluate",
    "explain": "fmrilm.explanation.explain",
    "load_config": "fmrilm.config.schema",
    "prepare": "fmrilm.preparation.prepare",
    "report": "fmrilm.reporting.report",
    "simulate": "fmrilm.datasets.synthetic.cohort",
    "train": "fmrilm.training.build:train_stage",
    "with_scan": "fmrilm.lm.text",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fmrilm' has no attribute {name!r}")
    module, _, other = _PUBLIC[name].partition(":")
    return getattr(importlib.import_module(module), other or name)


def __dir__() -> list[str]:
    return sorted(__all__)
