"""A linear code of patches, fitted before training: where a tokenizer starts from.

Patches are written in principal components over time, and their regions in spatial modes
(eigenvectors of the regions' covariance). Strong modes are weakened before quantization, as the
best linear code under equal noise does (a quarter power of the variance when every number gets the
same precision: Lee & Petersen 1976, https://doi.org/10.1109/TCOM.1976.1093309), and the decoder
reads every region's token together with all others of its time patch.

Tensor letters: B scans, R regions, S time patches, P points per patch, K components.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from fmrilm.tokenizer.quantizers.base import Quantizer, as_vectors

WEAKENING = 0.22  # power of a spatial mode's variance; flat between 0.2 and 0.25


class LinearCode(nn.Module):
    """Patches to ``size`` numbers per token and back; unfitted, all of them are zero.

    Parameters
    ----------
    patch_size : int
    size : int
        Components over time, K.
    width : int
        Features per token, D, at least K.
    num_rois : int, optional
        None: regions are coded one by one, so that the code holds for any atlas.
    """

    def __init__(self, patch_size: int, size: int, width: int, num_rois: int | None) -> None:
        super().__init__()
        self.patch_size, self.size = patch_size, size
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(patch_size))
        self.components: Tensor
        self.register_buffer("components", torch.zeros(patch_size, size))
        self.modes: Tensor | None
        modes = None if num_rois is None else torch.eye(num_rois)
        self.register_buffer("modes", modes)
        # The encoder's features that are quantized; at first none where the numbers stand.
        self.share = nn.Parameter((torch.arange(width) >= size).float())
        self.gain = nn.Parameter(torch.ones(num_rois or 1, size))
        self.back = nn.Parameter(torch.ones(num_rois or 1, size))

    def encode(self, patches: Tensor, used: Tensor) -> Tensor:
        """Return the numbers (B, S * R, K) of time-major patches (B, S * R, P).

        Patches that are not ``used`` (B, S * R) count for no region and get zeros.
        """
        return self._mix(self._project(patches), self.gain, used)

    def decode(self, numbers: Tensor, used: Tensor) -> Tensor:
        """Return the patches (B, S * R, P) that numbers (B, S * R, K) stand for."""
        return self._mix(numbers, self.back, used) @ self.components.T + self.mean

    def merge(self, numbers: Tensor, features: Tensor) -> Tensor:
        """Return the vectors to quantize: numbers (B, N, K) and features (B, N, D) together."""
        return as_vectors(numbers, features.shape[-1]) + features * self.share

    def _project(self, patches: Tensor) -> Tensor:
        return (patches - self.mean) @ self.components

    def _mix(self, numbers: Tensor, weight: Tensor, used: Tensor) -> Tensor:
        numbers = self._to_modes(numbers, used) * weight
        if self.modes is not None:
            numbers = (self.modes @ numbers).flatten(1, 2)
        return numbers * used[:, :, None]

    def _to_modes(self, numbers: Tensor, used: Tensor) -> Tensor:
        """Return numbers (B, S, R, K) of spatial modes, or (B, S * R, K) where there are none."""
        numbers = numbers * used[:, :, None]
        if self.modes is None:
            return numbers
        return self.modes.T @ numbers.unflatten(1, (-1, len(self.modes)))

    @torch.no_grad()
    def start(
        self,
        scans: Callable[[], Iterable[tuple[Tensor, Tensor]]],
        quantizer: Quantizer,
        at_most: int,
    ) -> None:
        """Fit the code on training scans, with a quantizer of its numbers in between.

        Parameters
        ----------
        scans : function
            Returns batches of time-major patches and which are used; called three times.
        quantizer : Quantizer
            Started from the numbers.
        at_most : int
            Tokens that the quantizer is started from.
        """
        self.fit(scans())
        numbers: list[Tensor] = []
        for patches, used in scans():
            numbers.append(self.encode(patches, used)[used])
            if sum(map(len, numbers)) >= at_most:
                break
        quantizer.start_linear(torch.cat(numbers)[:at_most])

        def coded() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            for patches, used in scans():
                vectors = as_vectors(self.encode(patches, used), quantizer.dim)
                codes = quantizer.indices_to_codes(quantizer(vectors).indices)
                yield patches, used, codes[..., : self.size]

        self.fit_back(coded())

    @torch.no_grad()
    def fit(self, scans: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Learn components, modes and gains from batches (patches, used) of training scans."""
        moments = _Moments(self.patch_size, len(self.gain))
        for patches, used in scans:
            moments.add(patches.cpu(), used.cpu())
        mean, over_time, over_space = moments.covariances()
        self.mean.copy_(mean)
        variance, vectors = _eigen(over_time)
        self.components.copy_(vectors[:, : self.size])
        gain = torch.ones(len(self.gain))
        if self.modes is not None:
            share, modes = _eigen(over_space)
            self.modes.copy_(modes)
            gain = (share / share.mean()).clamp_min(1e-4) ** -WEAKENING
        size = variance[: self.size].mean().clamp_min(1e-12).sqrt()  # numbers of size about 1
        self.gain.copy_((gain / size)[:, None].expand_as(self.gain))

    @torch.no_grad()
    def fit_back(self, scans: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Learn how far to believe the coded numbers, by least squares per mode and component.

        Parameters
        ----------
        scans : iterable of (Tensor, Tensor, Tensor)
            Patches, which of them are used, and their numbers after coding (B, S * R, K).
        """
        both, square = torch.zeros_like(self.back), torch.zeros_like(self.back)
        for patches, used, coded in scans:
            wanted = self._to_modes(self._project(patches), used)
            found = self._to_modes(coded, used)
            both += (wanted * found).sum((0, 1))
            square += found.square().sum((0, 1))
        self.back.copy_(both / square.clamp_min(1e-12))


class _Moments:
    """Sums over patches, for their covariance over time and over regions."""

    def __init__(self, patch_size: int, num_rois: int) -> None:
        self.num_rois = num_rois  # 1: regions are not told apart
        self.count = torch.zeros((), dtype=torch.float64)
        self.total = torch.zeros(patch_size, dtype=torch.float64)
        self.time = torch.zeros(patch_size, patch_size, dtype=torch.float64)
        self.space = torch.zeros(num_rois, num_rois, dtype=torch.float64)
        self.pairs = torch.zeros(num_rois, num_rois, dtype=torch.float64)

    def add(self, patches: Tensor, used: Tensor) -> None:
        """Take in patches (B, S * R, P)."""
        kept = patches[used]
        self.count += len(kept)
        self.total += kept.sum(0)
        self.time += kept.T @ kept
        if self.num_rois > 1:
            grid = (patches * used[:, :, None]).unflatten(1, (-1, self.num_rois))
            grid = grid.transpose(1, 2).flatten(2).transpose(0, 1).flatten(1)  # (R, B * S * P)
            real = used.unflatten(1, (-1, self.num_rois)).flatten(0, 1).to(patches.dtype)
            self.space += grid @ grid.T
            self.pairs += (real.T @ real) * patches.shape[2]

    def covariances(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean patch, the covariance over time, and the second moments over regions."""
        if not self.count:
            raise ValueError("no training scans to fit a linear code on")
        mean = self.total / self.count
        over_time = self.time / self.count - torch.outer(mean, mean)
        return mean.float(), over_time, self.space / self.pairs.clamp_min(1)


def _eigen(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, largest first, and eigenvectors of a symmetric matrix, in float32."""
    values, vectors = torch.linalg.eigh(covariance.double().cpu())
    return values.flip(0).clamp_min(0).float(), vectors.flip(1).float()
