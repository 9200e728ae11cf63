"""A scan as a few 1-D latent tokens (TiTok, Yu et al., arXiv 2406.07550)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fmrilm.config.schema import TokenizerConfig
from fmrilm.tokenizer.configuration import FMRITokenizerConfig
from fmrilm.tokenizer.encoder import Sight
from fmrilm.tokenizer.masks import patch_mask
from fmrilm.tokenizer.saved import TOKENIZERS
from fmrilm.tokenizer.tokenizer import FMRITokenizer


@TOKENIZERS.register("latent")
class TiTok(FMRITokenizer):
    """Turn a scan into ``num_latent_tokens`` tokens that stand for all of it.

    Learned latent tokens are read together with the scan's patches; what the encoder makes of them
    is quantized. The decoder sees the latent tokens and one mask token per patch, and fills these
    in. Nothing is causal: every latent token sees the whole scan, so there is no next time step
    to predict.

    Parameters
    ----------
    config : TokenizerConfig or FMRITokenizerConfig
        With ``num_latent_tokens``, e.g. 32, 64 or 128.

    Examples
    --------
    >>> tokenizer = TiTok(TokenizerConfig(num_rois=20, num_timestamp=40, patch_size=20,
    ...                                   enc_cls="vit_tiny", codebook_size=64,
    ...                                   num_latent_tokens=8)).eval()
    >>> tokenizer.tokenize(torch.randn(2, 20, 40)).shape
    torch.Size([2, 8])
    """

    def __init__(self, config: TokenizerConfig | FMRITokenizerConfig) -> None:
        super().__init__(config)
        width, count = self.config.size[0], self.config.num_tokens
        self.latents = nn.Parameter(torch.randn(count, width) * 0.02)
        self.decoder_latents = nn.Parameter(torch.randn(count, width) * 0.02)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        if self.config.roi_profile:
            del self.profile_head  # no token belongs to a region

    def token_mask(self, roi_mask: Tensor) -> Tensor:
        """Return that every latent token is usable, shape (B, N)."""
        return torch.ones(len(roi_mask), self.num_tokens, dtype=torch.bool, device=roi_mask.device)

    def encode(self, fmri: Tensor, roi_mask: Tensor | None = None) -> Tensor:
        """Return the features (B, N, D) of the latent tokens of scans (B, R, T)."""
        patches, roi_mask = self.embed_patches(fmri, roi_mask)
        latents = self.latents.expand(len(patches), -1, -1)
        x = self.encoder(torch.cat([latents, patches], 1), self._sight(roi_mask, patches.dtype))
        return x[:, : self.num_tokens]

    def decode_patches(self, codes: Tensor, roi_mask: Tensor) -> Tensor:
        """Return the patches (B, S * R, P) that quantized latent tokens (B, N, D) stand for."""
        latents = self.decoder_embed(codes) + self.decoder_latents
        asked = (self.mask_token + self.places()).expand(len(codes), -1, -1)
        x = self.decoder(torch.cat([latents, asked], 1), self._sight(roi_mask, codes.dtype))
        return self.head(x[:, self.num_tokens :])

    def _sight(self, roi_mask: Tensor, dtype: torch.dtype) -> Sight:
        """Return that latent tokens and usable patches are seen, whenever they are."""
        patches = patch_mask(roi_mask, self.config.num_steps)
        return Sight.of(torch.cat([self.token_mask(roi_mask), patches], 1), dtype)
