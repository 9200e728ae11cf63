"""From the decoder's tokens to samples: per patch, or per region over all its patches."""

from __future__ import annotations

from torch import Tensor, nn

from fmrilm.config.schema import TokenizerConfig
from fmrilm.tokenizer.encoder import to_patches


class OutputHead(nn.Sequential):
    """Two layers with a tanh between them, as the original has them.

    Parameters
    ----------
    width : int
        Of a token.
    patch_size : int
        Samples of a patch.
    steps : int
        Tokens of a region that are read side by side; 1: each token gives its own patch.
    """

    def __init__(self, width: int, patch_size: int, steps: int = 1) -> None:
        super().__init__(
            nn.Linear(steps * width, width), nn.Tanh(), nn.Linear(width, steps * patch_size)
        )
        self.steps, self.patch_size = steps, patch_size

    def forward(self, x: Tensor) -> Tensor:
        """Return the patches (B, S * R, P), time-major, of tokens (B, S * R, D)."""
        if self.steps == 1:
            return super().forward(x)
        x = x.unflatten(1, (self.steps, -1)).transpose(1, 2)  # (B, R, S, D)
        return to_patches(super().forward(x.flatten(2)), self.patch_size)


def build_output_head(config: TokenizerConfig) -> nn.Linear | OutputHead:
    """Return the layers that ``config.output_head`` names."""
    width = config.size[0]
    if config.output_head == "linear":
        return nn.Linear(width, config.patch_size)
    steps = config.num_steps if config.output_head == "region" else 1
    return OutputHead(width, config.patch_size, steps)
