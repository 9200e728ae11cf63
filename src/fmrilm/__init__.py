"""fmrilm: language-aligned fMRI models whose numbers can be believed.

``import fmrilm`` needs no torch: the public names are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Cohort": "fmrilm.cohort.cohort",
    "Config": "fmrilm.config.schema",
    "FMRILM": "fmrilm.lm.fmrilm",
    "FMRITokenizer": "fmrilm.tokenizer.tokenizer",
    "TimeSeriesStore": "fmrilm.cohort.store",
    "evaluate": "fmrilm.evaluation.evaluate",
    "load_config": "fmrilm.config.schema",
    "simulate": "fmrilm.datasets.synthetic.cohort",
    "train_stage": "fmrilm.training.build",
    "with_scan": "fmrilm.lm.text",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fmrilm' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
