"""Quantizers behind one contract: vectors to indices and back."""

from typing import Any

from fmrilm.config import TokenizerConfig
from fmrilm.models.quantizers.base import QUANTIZERS, Quantizer, QuantizerOutput
from fmrilm.models.quantizers.fsq import FiniteScalarQuantizer, ResidualFSQ
from fmrilm.models.quantizers.learned_vq import LearnedVectorQuantizer
from fmrilm.models.quantizers.vq import VectorQuantizer

__all__ = [
    "QUANTIZERS",
    "FiniteScalarQuantizer",
    "LearnedVectorQuantizer",
    "Quantizer",
    "QuantizerOutput",
    "ResidualFSQ",
    "VectorQuantizer",
    "build_quantizer",
]


def build_quantizer(config: TokenizerConfig) -> Quantizer:
    """Return the quantizer that ``config.quantizer`` names, for vectors of the encoder's width."""
    width = config.size[0]
    options: dict[str, dict[str, Any]] = {
        "vq": {
            "codebook_size": config.codebook_size,
            "code_dim": config.code_dim,
            "decay": config.decay,
            "beta": config.beta,
        },
        "vq_learned": {
            "codebook_size": config.codebook_size,
            "code_dim": config.code_dim,
            "beta": config.beta,
        },
        "fsq": {"levels": config.fsq_levels},
        "rfsq": {"levels": config.fsq_levels, "num_quantizers": config.num_quantizers},
    }
    return QUANTIZERS[config.quantizer](width, **options.get(config.quantizer, {}))
