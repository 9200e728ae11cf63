"""Quantizers behind one contract: vectors to indices and back."""

from typing import Any

from fmrilm.config.schema import TokenizerConfig
from fmrilm.tokenizer.quantizers.absent import NoQuantizer
from fmrilm.tokenizer.quantizers.base import QUANTIZERS, Quantizer, QuantizerOutput
from fmrilm.tokenizer.quantizers.fsq import FiniteScalarQuantizer, ResidualFSQ
from fmrilm.tokenizer.quantizers.learned_vq import LearnedVectorQuantizer
from fmrilm.tokenizer.quantizers.vq import VectorQuantizer

__all__ = [
    "QUANTIZERS",
    "FiniteScalarQuantizer",
    "LearnedVectorQuantizer",
    "NoQuantizer",
    "Quantizer",
    "QuantizerOutput",
    "ResidualFSQ",
    "VectorQuantizer",
    "build_quantizer",
]


def build_quantizer(config: TokenizerConfig) -> Quantizer:
    """Return the quantizer that ``config.quantizer`` names, for vectors of the encoder's width."""
    width = config.size[0]
    if config.quantizer == "none":
        return NoQuantizer(width, config.codebook_size)
    options: dict[str, dict[str, Any]] = {
        "vq": {
            "codebook_size": config.codebook_size,
            "code_dim": config.code_dim,
            "decay": config.decay,
            "beta": config.beta,
            "head": config.code_head,
            "distance": config.code_distance,
        },
        "vq_learned": {
            "codebook_size": config.codebook_size,
            "code_dim": config.code_dim,
            "beta": config.beta,
            "head": config.code_head,
        },
        "fsq": {"levels": config.fsq_levels},
        "rfsq": {"levels": config.fsq_levels, "num_quantizers": config.num_quantizers},
    }
    return QUANTIZERS[config.quantizer](width, **options.get(config.quantizer, {}))
