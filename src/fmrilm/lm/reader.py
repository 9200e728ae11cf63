"""Scans and text in one sequence: fMRI tokenizer -> projection -> causal language model.

Tensor letters: B rows, N scan tokens, L tokens of scan and text, D width of the LM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from fmrilm.config.schema import ModelConfig
from fmrilm.errors import InputError
from fmrilm.lm.adapters import has_adapter
from fmrilm.lm.codes import codes_loss, next_step_target
from fmrilm.lm.configuration import FMRILMConfig
from fmrilm.lm.cpu.activations import half_activations
from fmrilm.lm.cpu.attention import use_segments
from fmrilm.lm.cpu.lean import make_lean
from fmrilm.lm.interface import Scan, attention_masks, check_length
from fmrilm.lm.logits import is_linear, linear_cross_entropy
from fmrilm.lm.projector import build_projector
from fmrilm.lm.summary.build import build_summary
from fmrilm.lm.text import IGNORED, SCAN_ID, TextEncoder, check_places
from fmrilm.tokenizer.masks import positions
from fmrilm.tokenizer.tokenizer import FMRITokenizer


class FMRIReader(PreTrainedModel):
    """A language model that reads scans: its losses and hidden states.

    Parameters
    ----------
    config : ModelConfig or FMRILMConfig
    tokenizer : FMRITokenizer
        Frozen and in evaluation mode, unless ``config.lm.tune_tokenizer``.
    lm : PreTrainedModel
        Any causal language model of transformers, or a peft model around one.
    text_tokenizer : PreTrainedTokenizerBase
        Its text tokenizer.
    """

    config: FMRILMConfig
    config_class = FMRILMConfig
    main_input_name = "input_ids"

    def __init__(
        self,
        config: ModelConfig | FMRILMConfig,
        tokenizer: FMRITokenizer,
        lm: Any,
        text_tokenizer: Any,
    ) -> None:
        if isinstance(config, ModelConfig):
            config = FMRILMConfig.of(config)
        super().__init__(config)
        self.tokenizer = tokenizer
        self.lm = lm
        make_lean(self._causal_lm())
        self.has_segments = use_segments(self._causal_lm())
        self.has_linear_logits = is_linear(self._causal_lm())
        self.prepare_activations()
        config.vq_model = tokenizer.config.vq_model
        self.text = TextEncoder.of(text_tokenizer, config)
        width = lm.get_input_embeddings().embedding_dim
        self.summary = build_summary(tokenizer.config.vq_model, config.lm, width)
        self.projector = build_projector(config.lm.projector, tokenizer.config.size[0], width)
        self.dropout = nn.Dropout(config.lm.dropout)
        self.roi_embed = nn.Parameter(torch.randn(tokenizer.config.tokens_per_step, width) * 0.02)
        self.mask_embed = nn.Parameter(torch.zeros(width))
        self.start_embed = nn.Parameter(torch.zeros(width))  # text to fMRI: before the first patch
        self.fmri_head = nn.Linear(width, tokenizer.codebook_size)
        self.cls_head = nn.Linear(width, config.lm.num_classes) if config.lm.use_cls_head else None
        self.value_scale: Tensor  # mean and spread of the trained values, for a head of one output
        self.register_buffer("value_scale", torch.tensor([0.0, 1.0]))
        self.tokenizer.requires_grad_(config.lm.tune_tokenizer)

    def train(self, mode: bool = True) -> FMRIReader:
        """Switch to training mode; a frozen tokenizer stays in evaluation mode."""
        super().train(mode)
        if not self.config.lm.tune_tokenizer:
            self.tokenizer.eval()
        return self

    def features(self, fmri: Tensor, roi_mask: Tensor | None = None) -> Tensor:
        """Return what the language model is given of scans (B, R, T), before projection (B, N, D).

        Encoder features (``fmri_input: continuous``) or codebook vectors (``quantized``).
        """
        return self.encode(fmri, roi_mask)[0]

    def encode(self, fmri: Tensor, roi_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return :meth:`features` (B, N, D) and code indices (B, N) of scans, in one pass."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.lm.tune_tokenizer):
            features = self.tokenizer.encode(fmri, roi_mask)
            quantized = self.tokenizer.quantize(features, fmri, roi_mask)
            if self.config.lm.fmri_input == "quantized":
                features = quantized.codes
        return features, quantized.indices

    def project_tokens(self, features: Tensor) -> Tensor:
        """Return scan embeddings (B, N, D) in the language model's space."""
        x = self.projector(features) + self.roi_embed.repeat(self.tokenizer.config.token_steps, 1)
        return self.dropout(x)

    def project(
        self,
        fmri: Tensor,
        roi_mask: Tensor | None = None,
        features: Tensor | None = None,
        summary_scan: Scan | None = None,
    ) -> Tensor:
        """Return the embeddings of scans with their summary tokens behind them, (B, N + K, D).

        Parameters
        ----------
        fmri : Tensor, shape (B, R, T)
        roi_mask : Tensor of bool, shape (B, R) or (B, R, T), optional
        features : Tensor, shape (B, N, D), optional
            What :meth:`features` gave for ``fmri`` before.
        summary_scan : (Tensor, Tensor), optional
            Scans and masks whose summary stands behind the tokens of ``fmri``; None: its own.
        """
        if features is None:
            features = self.features(fmri, roi_mask)
        x = self.project_tokens(features)
        if self.summary is None:
            if summary_scan is not None:
                raise InputError("the model has no summary tokens: leave out summary_scan")
            return x
        return torch.cat([x, self._summary_of(*(summary_scan or (fmri, roi_mask)))], 1)

    def _summary_of(self, fmri: Tensor, roi_mask: Tensor | None) -> Tensor:
        assert self.summary is not None
        if roi_mask is None:
            roi_mask = torch.ones(fmri.shape[:2], dtype=torch.bool, device=fmri.device)
        return self.summary(fmri, roi_mask)

    def read(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        scan: Tensor | None = None,
        roi_mask: Tensor | None = None,
        position: Tensor | None = None,
        states_only: bool = False,
        **options: Any,
    ) -> tuple[Any, Tensor, Tensor]:
        """Run the language model over prompts with scans in their places.

        Parameters
        ----------
        input_ids, attention_mask : Tensor, shape (B, L)
            As :meth:`TextEncoder.batch` makes them.
        scan : Tensor, shape (B, N, D) or (B, N + K, D)
            Projected scans, with or without their summary tokens.
        roi_mask : Tensor of bool, shape (B, R), optional
        position : Tensor of long, shape (B, L), optional
            Of every token, where tokens are missing that others are counted behind.
        states_only : bool
            Leave the output layer out: ``output[0]`` are the last hidden states (B, L, D).
        **options
            Handed to the language model, e.g. ``logits_to_keep``.

        Returns
        -------
        output, position (B, L), valid (B, L)

        Raises
        ------
        InputError
            If a prompt has not as many places as its scan has tokens.
        """
        check_places(input_ids, *((0, 0) if scan is None else scan.shape[:2]))
        is_scan = input_ids == SCAN_ID
        embeds = self.lm.get_input_embeddings()(input_ids.masked_fill(is_scan, 0))
        valid = attention_mask.bool()
        if scan is not None:
            embeds = embeds.masked_scatter(is_scan[:, :, None], scan.to(embeds.dtype))
            if roi_mask is not None:
                usable = self.tokenizer.token_mask(roi_mask)
                usable = F.pad(usable, (0, scan.shape[1] - usable.shape[1]), value=True)
                valid = valid.masked_scatter(is_scan, usable)
        if position is None:
            position = self._positions(input_ids, attention_mask)
        check_length(position, self.lm)
        if self.has_segments:
            columns = is_scan.any(0).nonzero()
            options["scan_end"] = int(columns[-1]) + 1 if len(columns) else 0
        network = self._causal_lm().base_model if states_only else self.lm
        with self._activations():
            output = network(
                inputs_embeds=embeds,
                attention_mask=attention_masks(self.lm, position, position, valid, embeds.dtype),
                position_ids=position,
                **options,
            )
        return output, position, valid

    def prepare_activations(self) -> None:
        """Let the language model compute activations twice where the configuration says so."""
        lm = self._causal_lm()
        if self.config.lm.activations == "recompute":
            lm.activation_checkpointing_enable({"use_reentrant": False})
        elif lm.is_activation_checkpointing:
            lm.activation_checkpointing_disable()

    def _activations(self) -> Any:
        """Return the context that says how activations are kept for the backward pass."""
        if self.config.lm.activations == "half" and self.training and torch.is_grad_enabled():
            return half_activations(self._causal_lm())
        return nullcontext()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        fmri: Tensor | None = None,
        roi_mask: Tensor | None = None,
        features: Tensor | None = None,
        token_dropout: bool = True,
    ) -> Tensor:
        """Return the mean cross-entropy of the supervised text tokens.

        Logits are computed of supervised tokens only, and never held all at once where the output
        layer is frozen.

        Parameters
        ----------
        input_ids, attention_mask, labels : Tensor, shape (B, L)
        fmri : Tensor, shape (B, R, T), optional
            Absent for text without a scan.
        features : Tensor, shape (B, N, D), optional
            What :meth:`features` gave for ``fmri`` before.
        token_dropout : bool
            Leave the tokens of the scans of some batches out in training, as configured; their
            summary stays.
        """
        scan, position = None, None
        if fmri is not None and token_dropout and self._draws_summary_alone():
            check_places(input_ids, len(fmri), self.text.num_places)
            position = self._positions(input_ids, attention_mask)
            kept = self._without_tokens(input_ids)
            input_ids, attention_mask, labels, position = (
                x[kept].view(len(x), -1) for x in (input_ids, attention_mask, labels, position)
            )
            scan, roi_mask = self._summary_of(fmri, roi_mask), None
        elif fmri is not None:
            scan = self.project(fmri, roi_mask, features)
        supervised = labels[:, 1:] != IGNORED
        output, _, _ = self.read(
            input_ids,
            attention_mask,
            scan,
            roi_mask,
            position,
            **self._wanted(supervised),
            use_cache=False,
        )
        target = labels[:, 1:][supervised]
        if self.has_linear_logits:
            states = output[0][:, :-1][supervised]
            loss = linear_cross_entropy(states, self.lm.get_output_embeddings(), target)
        else:
            logits = output.logits[supervised[:, supervised.any(0)]]
            loss = F.cross_entropy(logits.float(), target)
        if position is not None:  # every process has to have gradients of the same weights
            loss = loss + 0.0 * sum(p.sum() for p in [*self.projector.parameters(), self.roi_embed])
        return loss

    def _wanted(self, supervised: Tensor) -> dict[str, Any]:
        """Return the options of a pass from which only the supervised columns are needed."""
        if self.has_linear_logits:
            return {"states_only": True}
        return {"logits_to_keep": supervised.any(0).nonzero().squeeze(1)}

    def _draws_summary_alone(self) -> bool:
        """Return whether this batch is to show nothing of its scans but the summary."""
        share = self.config.lm.token_dropout
        return bool(self.summary and self.training and share and torch.rand(()) < share)

    def _without_tokens(self, input_ids: Tensor) -> Tensor:
        """Return the places (B, L) that are left when the scans' own tokens are taken out."""
        is_scan = input_ids == SCAN_ID
        return ~is_scan | (is_scan.cumsum(1) > self.tokenizer.config.num_tokens)

    def _positions(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        per_step = self.tokenizer.config.tokens_per_step
        return positions(input_ids == SCAN_ID, attention_mask.bool(), per_step)

    def text_loss(
        self, batch: Mapping[str, Tensor], features: Tensor, token_dropout: bool = True
    ) -> Tensor:
        """Return :meth:`forward` of a collated batch whose scans have these features (B, N, D)."""
        return self(
            batch["input_ids"],
            batch["attention_mask"],
            batch["labels"],
            batch["fmri"],
            batch["roi_mask"],
            features,
            token_dropout,
        )

    def code_loss(
        self,
        fmri: Tensor,
        roi_mask: Tensor,
        masked: float | Tensor,
        features: Tensor | None = None,
        codes: Tensor | None = None,
    ) -> Tensor:
        """Return the cross-entropy of predicted fMRI codes, the fMRI-only objective.

        With several time patches each token predicts the code of its region in the next patch.
        With one patch that would be its own code; there tokens are masked, and theirs are
        predicted.

        Parameters
        ----------
        fmri : Tensor, shape (B, R, T)
        roi_mask : Tensor of bool, shape (B, R)
        masked : float or Tensor of bool, shape (B, N)
            Where there is one time patch, the share of tokens to mask at random, or which ones.
        features, codes : Tensor, shapes (B, N, D) and (B, N), optional
            What :meth:`encode` gave for ``fmri`` before.
        """
        if codes is None or features is None:
            features, codes = self.encode(fmri, roi_mask)
        scan = self.project_tokens(features)
        if self.tokenizer.config.token_steps > 1:
            target = next_step_target(self, codes, roi_mask)
        else:
            hidden = masked
            if not isinstance(hidden, Tensor):
                hidden = torch.rand(codes.shape, device=codes.device) < masked
            scan = torch.where(hidden[:, :, None], self.mask_embed, scan)
            target = codes.masked_fill(~hidden | ~self.tokenizer.token_mask(roi_mask), IGNORED)
        states = self.hidden_states(torch.full_like(codes, SCAN_ID), scan, roi_mask)
        return codes_loss(self, states, target)

    def code_logits(self, states: Tensor) -> tuple[Tensor, int]:
        """Return logits (n, V) over fMRI codes of hidden states (n, D), and where codes start.

        A head of its own, or (``use_fmri_lm_head: false``) the codes as further words: then text
        and codes are in one distribution, the codes behind the text tokens.
        """
        if self.config.lm.use_fmri_lm_head:
            return self.fmri_head(states), 0
        text = self.lm.get_output_embeddings()(states)
        return torch.cat([text, self.fmri_head(states)], -1), text.shape[-1]

    @contextmanager
    def last_states(self) -> Iterator[list[Tensor]]:
        """Give a list that gets the last hidden states (B, L, D) of every pass made inside."""
        found: list[Tensor] = []
        decoder = self._causal_lm().base_model
        handle = decoder.register_forward_hook(lambda _m, _a, out: found.append(out[0]))
        try:
            yield found
        finally:
            handle.remove()

    def _causal_lm(self) -> Any:
        return self.lm.get_base_model() if has_adapter(self.lm) else self.lm

    def head_output(self, states: Tensor) -> Tensor:
        """Return the class logits, or the standardised value, of states (B, D)."""
        if self.cls_head is None:
            raise InputError("the model has no head: train it with model.lm.use_cls_head=true")
        return self.cls_head(states.to(self.cls_head.weight.dtype))

    def hidden_states(self, ids: Tensor, scan: Tensor, roi_mask: Tensor) -> Tensor:
        """Return the language model's last hidden states (B, L, D), without any logits."""
        is_scan = ids == SCAN_ID
        valid = self.tokenizer.token_mask(roi_mask)
        position = positions(is_scan, torch.ones_like(valid), self.tokenizer.config.tokens_per_step)
        return self._causal_lm().base_model(
            inputs_embeds=scan,
            attention_mask=attention_masks(self.lm, position, position, valid, scan.dtype),
            position_ids=position,
            use_cache=False,
        )[0]
