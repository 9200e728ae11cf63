"""fmrilm's classes at transformers' ``AutoConfig``, ``AutoModel`` and ``AutoProcessor``.

``from fmrilm import FMRILM`` (or FMRITokenizer, FMRIProcessor) is enough to have them registered.
"""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoProcessor

from fmrilm.lm.configuration import FMRILMConfig
from fmrilm.lm.fmrilm import FMRILM
from fmrilm.processing.processor import FMRIProcessor
from fmrilm.tokenizer.configuration import FMRITokenizerConfig
from fmrilm.tokenizer.tokenizer import FMRITokenizer

for config, model in ((FMRILMConfig, FMRILM), (FMRITokenizerConfig, FMRITokenizer)):
    AutoConfig.register(config.model_type, config)
    AutoModel.register(config, model)
AutoProcessor.register(FMRILMConfig, FMRIProcessor)
