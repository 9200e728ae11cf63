"""The fMRI tokenizer: ViT encoder, quantizer, decoder (fMRI-LM, arXiv 2511.21760, stage 1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmrilm.config.schema import TokenizerConfig
from fmrilm.errors import InputError
from fmrilm.tokenizer.configuration import FMRITokenizerConfig
from fmrilm.tokenizer.coordinates import CoordinateEmbedding, check_centroids
from fmrilm.tokenizer.encoder import (
    BlockOptions,
    Blocks,
    Sight,
    connectivity,
    from_patches,
    init_weights,
    to_patches,
)
from fmrilm.tokenizer.linear_start import LinearCode
from fmrilm.tokenizer.masks import pair_mask, patch_mask, region_mask, sample_mask
from fmrilm.tokenizer.output_head import build_output_head
from fmrilm.tokenizer.quantizers import QuantizerOutput, build_quantizer
from fmrilm.tokenizer.saved import TOKENIZERS, SavedTokenizer


@dataclass
class TokenizerOutput:
    """What the tokenizer makes of a batch of scans."""

    features: Tensor  # (B, N, D) encoder output, before quantization
    quantized: QuantizerOutput
    reconstruction: Tensor  # (B, R, T)


@TOKENIZERS.register("grid")
class FMRITokenizer(SavedTokenizer):
    """Turn scans into tokens, and tokens into scans.

    Tokens are time-major: all regions of the first time patch, then those of the next. A token
    sees its own and earlier time patches only.

    Parameters
    ----------
    config : TokenizerConfig or FMRITokenizerConfig

    Examples
    --------
    >>> tokenizer = FMRITokenizer(TokenizerConfig(num_rois=20, num_timestamp=40, patch_size=20,
    ...                                           enc_cls="vit_tiny", codebook_size=64)).eval()
    >>> tokenizer.tokenize(torch.randn(2, 20, 40)).shape
    torch.Size([2, 40])
    """

    def __init__(self, config: TokenizerConfig | FMRITokenizerConfig) -> None:
        super().__init__(config)
        self._build(self.config.vq_model)

    def _build(self, config: TokenizerConfig) -> None:
        width, depth, heads = config.size
        self.patch_embed = nn.Linear(config.patch_size, width)
        self.roi_embed = self._region_embedding(width, 0.02)
        self.step_embed = nn.Parameter(torch.randn(config.num_steps, width) * 0.02)
        self.cls_token = nn.Parameter(torch.randn(width) * 0.02) if config.cls_token else None
        recompute = "all" if config.gradient_checkpointing else config.recompute
        rates = config.drop_path, config.dropout
        options = BlockOptions(*rates, config.qk_norm, config.gate_attn, recompute)
        self.encoder = Blocks(width, depth, heads, options)
        self.quantizer = build_quantizer(config)
        if self.has_codes:
            self.decoder_embed = nn.Linear(width, width)
            self.decoder_roi_embed = self._region_embedding(width, 0.02)
            self.decoder_step_embed = nn.Parameter(torch.randn(config.num_steps, width) * 0.02)
            still = dataclasses.replace(options, drop_path=0.0, eps=config.decoder_eps)
            self.decoder = Blocks(width, config.decoder_depth, heads, still)
            self.head = build_output_head(config)
        init_weights(self)
        self.linear = self._linear_code()
        if config.roi_profile:
            # A region's connectivity profile is embedded as the sum of its partners' embeddings,
            # weighted by how far its connection to them is from that of the training scans.
            self.profile_embed = self._region_embedding(width, 1.0)
            self.profile_head = nn.Linear(width, width if self.uses_coords else config.num_rois)
            self.profile_mean: Tensor
            self.register_buffer("profile_mean", torch.zeros(config.num_rois, config.num_rois))
            self.profile_sd: Tensor
            self.register_buffer("profile_sd", torch.ones(config.num_rois, config.num_rois))
        if self.uses_coords:
            self.centroids: Tensor
            self.register_buffer("centroids", torch.full((config.num_rois, 3), torch.nan))
        for module in self.modules():
            if isinstance(module, CoordinateEmbedding):
                module.reset()

    def _region_embedding(self, width: int, std: float) -> nn.Parameter | CoordinateEmbedding:
        if self.uses_coords:
            return CoordinateEmbedding(width, std)
        return nn.Parameter(torch.randn(self.config.num_rois, width) * std)

    def _linear_code(self) -> LinearCode | None:
        config, width = self.config, self.config.size[0]
        size = min(config.patch_size, self.quantizer.linear_size, width // 2)
        if not config.data_start or not self.has_region_tokens or size < 1:
            return None
        regions = None if self.uses_coords else config.num_rois
        return LinearCode(config.patch_size, size, width, regions)

    @property
    def uses_coords(self) -> bool:
        """Whether regions are told apart by their centroids rather than by a learned table."""
        return self.config.roi_embed == "coords"

    def region_table(self, name: str) -> Tensor:
        """Return the embeddings (R, D) of the regions: ``roi_embed``, ``decoder_roi_embed`` ..."""
        embedding = getattr(self, name)
        if isinstance(embedding, Tensor):
            return embedding
        if self.centroids.isnan().any():
            raise InputError("the tokenizer has no centroids: call set_centroids(atlas.centroids)")
        return embedding(self.centroids)

    def set_centroids(self, centroids: Tensor, atlas: str = "of the cohort") -> None:
        """Say where the regions are, in MNI mm, shape (R, 3); for ``roi_embed: coords``."""
        self.centroids.copy_(check_centroids(centroids, self.config.num_rois, atlas))

    def for_atlas(self, centroids: Tensor, atlas: str = "of the cohort") -> FMRITokenizer:
        """Return this tokenizer for the regions of another atlas, with the same weights.

        Mean and spread of the connectivity belong to the atlas: :meth:`fit_profiles` learns them
        anew.

        Raises
        ------
        InputError
            If the regions are told apart by a learned table, or have no centroids.
        """
        if not self.uses_coords:
            raise InputError(
                "this tokenizer learned one embedding per region of its atlas: only one trained "
                "with model.vq_model.roi_embed=coords goes on with another"
            )
        moved = type(self)(dataclasses.replace(self.config.vq_model, num_rois=len(centroids)))
        moved.set_centroids(centroids, atlas)
        of_atlas = ("centroids", "profile_mean", "profile_sd")
        state = {k: v for k, v in self.state_dict().items() if k not in of_atlas}
        missing, unexpected = moved.load_state_dict(state, strict=False)
        assert set(missing) <= set(of_atlas)
        assert not unexpected
        return moved.train(self.training)

    @property
    def has_codes(self) -> bool:
        """Whether there are codes and a decoder, or an encoder alone (``quantizer: none``)."""
        return self.config.quantizer != "none"

    @property
    def codebook_size(self) -> int:
        """Number of different tokens."""
        return self.quantizer.codebook_size

    @property
    def num_tokens(self) -> int:
        """Tokens per scan."""
        return self.config.num_tokens

    @property
    def has_region_tokens(self) -> bool:
        """Whether every token belongs to a region and a time patch."""
        return self.config.num_latent_tokens is None

    def check(self, fmri: Tensor) -> None:
        """Raise :class:`InputError` if scans (B, R, T) do not fit the model."""
        expected = (self.config.num_rois, self.config.num_timestamp)
        if tuple(fmri.shape[1:]) != expected:
            raise InputError(
                f"scans have {fmri.shape[1]} regions x {fmri.shape[2]} time points, the model was "
                f"built for {expected[0]} x {expected[1]}: set model.vq_model.num_rois and "
                "num_timestamp, or prepare the cohort with the model's atlas"
            )

    def token_mask(self, roi_mask: Tensor) -> Tensor:
        """Return the tokens of usable regions with a real sample, shape (B, N)."""
        return patch_mask(roi_mask, self.config.num_steps)

    def _sight(self, roi_mask: Tensor, dtype: torch.dtype) -> Sight:
        steps = 1 if self.config.attention == "full" else self.config.num_steps
        return Sight.of(self.token_mask(roi_mask), dtype, steps)

    def encode(self, fmri: Tensor, roi_mask: Tensor | None = None) -> Tensor:
        """Return the encoder's features (B, N, D) of scans (B, R, T).

        Parameters
        ----------
        fmri : Tensor, shape (B, R, T)
            Scaled series.
        roi_mask : Tensor of bool, shape (B, R) or (B, R, T), optional
            Usable regions, or usable samples where scans are padded; None: all.
        """
        x, roi_mask = self.embed_patches(fmri, roi_mask)
        if self.cls_token is None:
            return self.encoder(x, self._sight(roi_mask, x.dtype))
        x = torch.cat([self.cls_token.expand(len(x), 1, -1), x], 1)
        usable = F.pad(self.token_mask(roi_mask), (1, 0), value=True)
        return self.encoder(x, Sight.of(usable, x.dtype))[:, 1:]

    def quantize(
        self, features: Tensor, fmri: Tensor, roi_mask: Tensor | None = None
    ) -> QuantizerOutput:
        """Return the codes of the features (B, N, D) of scans (B, R, T)."""
        if roi_mask is None:
            return self.quantizer(self._with_linear(features, fmri, self._all(fmri)))
        return self.quantizer(
            self._with_linear(features, fmri, roi_mask), self.token_mask(roi_mask)
        )

    def _with_linear(self, features: Tensor, fmri: Tensor, roi_mask: Tensor) -> Tensor:
        """Return what is quantized: the features, with the linear code's numbers in front."""
        if self.linear is None:
            return features
        ((patches, used),) = self._cut([(fmri, roi_mask)])
        return self.linear.merge(self.linear.encode(patches, used), features)

    def _all(self, fmri: Tensor) -> Tensor:
        return torch.ones(fmri.shape[:2], dtype=torch.bool, device=fmri.device)

    def embed_patches(self, fmri: Tensor, roi_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the encoder's input (B, S * R, D), time-major, and the mask."""
        self.check(fmri)
        if roi_mask is None:
            roi_mask = self._all(fmri)
        fmri = fmri * sample_mask(roi_mask)
        x = self.patch_embed(to_patches(fmri, self.config.patch_size))
        steps = self.config.num_steps
        x = x + self.region_table("roi_embed").repeat(steps, 1)
        x = x + self.step_embed.repeat_interleave(self.config.num_rois, 0)
        if self.config.roi_profile:
            profile = self.profiles(fmri, roi_mask)  # (B, S, R, R)
            used = region_mask(roi_mask).sum(1).clamp_min(1)[:, None, None, None]
            partners = self.region_table("profile_embed")
            x = x + (profile @ partners / used.sqrt()).flatten(1, 2)
        return x, roi_mask

    def profiles(self, fmri: Tensor, roi_mask: Tensor) -> Tensor:
        """Return every region's connectivity up to each time patch, shape (B, S, R, R).

        In standard deviations from the mean of the training scans (:meth:`fit_profiles`).
        """
        z = connectivity(fmri, roi_mask, self.config.patch_size)
        return (z - self.profile_mean) / self.profile_sd * pair_mask(roi_mask)[:, None]

    def predict_profiles(self, features: Tensor) -> Tensor:
        """Return the regions' connectivity profiles (B, S, R, R) as tokens (B, N, D) tell them."""
        x = self.profile_head(features)
        if self.uses_coords:
            x = x @ self.region_table("profile_embed").T / x.shape[-1] ** 0.5
        return x.unflatten(1, (self.config.num_steps, -1))

    @torch.no_grad()
    def fit_profiles(self, scans: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Learn mean and spread of the connectivity from batches (fmri, roi_mask) of train scans.

        Pairs of regions that fewer than two scans have stay as they are: mean 0, spread 1.
        """
        R = self.config.num_rois
        count, total, square = (torch.zeros(R, R, dtype=torch.float64) for _ in range(3))
        for fmri, roi_mask in scans:
            z = connectivity(fmri, roi_mask, fmri.shape[2])[:, 0].double().cpu()
            pairs = pair_mask(roi_mask).double().cpu()
            count += pairs.sum(0)
            total += (z * pairs).sum(0)
            square += (z.square() * pairs).sum(0)
        mean = total / count.clamp_min(1)
        variance = (square / count.clamp_min(1) - mean.square()).clamp_min(0)
        known = (count >= 2) & (variance > 1e-8)
        self.profile_mean.copy_(torch.where(known, mean, 0.0))
        self.profile_sd.copy_(torch.where(known, variance.sqrt(), 1.0))

    @torch.no_grad()
    def fit_linear(
        self, scans: Callable[[], Iterable[tuple[Tensor, Tensor]]], at_most: int
    ) -> None:
        """Start from a linear code of the training scans; the transformers add nothing yet.

        Parameters
        ----------
        scans : function
            Returns batches (fmri, roi_mask) of the training scans; called three times.
        at_most : int
            Tokens that the quantizer is started from.
        """
        assert self.linear is not None
        self.linear.start(lambda: self._cut(scans()), self.quantizer, at_most)
        for parameter in [*self.head.parameters()][-2:]:  # of the last layer
            parameter.zero_()

    def _cut(self, scans: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the patches (B, S * R, P) of scans, and which of them are usable."""
        for fmri, roi_mask in scans:
            fmri = fmri * sample_mask(roi_mask)
            yield to_patches(fmri, self.config.patch_size), self.token_mask(roi_mask)

    def tokenize(self, fmri: Tensor, roi_mask: Tensor | None = None) -> Tensor:
        """Return the code index of every token, shape (B, N) long."""
        self.quantizer.check_codes()
        return self.quantize(self.encode(fmri, roi_mask), fmri, roi_mask).indices

    def decode(self, codes: Tensor, roi_mask: Tensor | None = None) -> Tensor:
        """Return the series (B, R, T) that quantized vectors (B, N, D) stand for."""
        if roi_mask is None:
            shape = (len(codes), self.config.num_rois)
            roi_mask = torch.ones(shape, dtype=torch.bool, device=codes.device)
        patches = self.decode_patches(codes, roi_mask)
        return from_patches(patches, self.config.num_rois) * sample_mask(roi_mask)

    def decode_patches(self, codes: Tensor, roi_mask: Tensor) -> Tensor:
        """Return the patches (B, S * R, P), time-major, of quantized vectors (B, N, D)."""
        self.quantizer.check_codes()
        x = self.decoder_embed(codes) + self.places()
        patches = self.head(self.decoder(x, self._sight(roi_mask, x.dtype)))
        if self.linear is not None:
            patches = patches + self.linear.decode(
                codes[..., : self.linear.size], self.token_mask(roi_mask)
            )
        return patches

    def places(self) -> Tensor:
        """Return what tells the decoder which patch of which region is asked for, (S * R, D)."""
        regions = self.region_table("decoder_roi_embed").repeat(self.config.num_steps, 1)
        return regions + self.decoder_step_embed.repeat_interleave(self.config.num_rois, 0)

    def decode_indices(self, indices: Tensor, roi_mask: Tensor | None = None) -> Tensor:
        """Return the series (B, R, T) that code indices (B, N) stand for."""
        return self.decode(self.quantizer.indices_to_codes(indices), roi_mask)

    def reconstruct(self, fmri: Tensor, roi_mask: Tensor | None = None) -> Tensor:
        """Return the scans as they come back out of their tokens, shape (B, R, T)."""
        return self(fmri, roi_mask).reconstruction

    def forward(self, fmri: Tensor, roi_mask: Tensor | None = None) -> TokenizerOutput:
        """Encode, quantize and reconstruct scans (B, R, T)."""
        features = self.encode(fmri, roi_mask)
        quantized = self.quantize(features, fmri, roi_mask)
        return TokenizerOutput(features, quantized, self.decode(quantized.codes, roi_mask))
