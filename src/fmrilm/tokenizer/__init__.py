"""The fMRI tokenizer: encoder, quantizers, decoder."""

from fmrilm.tokenizer import titok as titok  # registers itself
