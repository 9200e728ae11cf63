"""What tells a region's token which region it is: a learned row, or its place in the brain.

A learned table belongs to one atlas. Embeddings computed from MNI centroids (Fourier features of
the coordinates, Tancik et al., arXiv 2006.10739, then a small MLP) hold no weight per region, so a
model trained with them can go on with another atlas.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fmrilm.errors import InputError

SCALE_MM = 100.0  # half the extent of a head: coordinates become numbers of order one
FREQUENCIES = 6


class CoordinateEmbedding(nn.Module):
    """Embeddings of regions from their centroids.

    Parameters
    ----------
    width : int
        Features per region.
    std : float
        Typical size of the embeddings at the start.
    """

    def __init__(self, width: int, std: float = 0.02) -> None:
        super().__init__()
        self.std = std
        self.net = nn.Sequential(
            nn.Linear(3 + 6 * FREQUENCIES, width), nn.GELU(), nn.Linear(width, width)
        )
        self.norm = nn.LayerNorm(width)

    def reset(self) -> None:
        """Give the weights their start: embeddings of size ``std`` that tell regions apart."""
        for layer in self.net:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
        nn.init.constant_(self.norm.weight, self.std)
        nn.init.zeros_(self.norm.bias)

    def forward(self, centroids: Tensor) -> Tensor:
        """Return the embeddings (R, width) of centroids (R, 3) in mm."""
        x = centroids / SCALE_MM
        octaves = 2.0 ** torch.arange(FREQUENCIES, device=x.device, dtype=x.dtype)
        angles = (x[:, :, None] * octaves * torch.pi / 2).flatten(1)  # (R, 3 * FREQUENCIES)
        return self.norm(self.net(torch.cat([x, angles.sin(), angles.cos()], 1)))


def check_centroids(centroids: Tensor, num_rois: int, atlas: str) -> Tensor:
    """Return centroids (R, 3) as float32.

    Raises
    ------
    InputError
        If a region has none, or their number is not that of the regions.
    """
    centroids = torch.as_tensor(centroids, dtype=torch.float32)
    unknown = int((~centroids.isfinite().all(1)).sum())
    if unknown or len(centroids) != num_rois:
        raise InputError(
            f"atlas {atlas} gives centroids for {len(centroids) - unknown} of {num_rois} regions: "
            "add the columns x, y, z to atlas.tsv, or set model.vq_model.roi_embed=learned"
        )
    return centroids
