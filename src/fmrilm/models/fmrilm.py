"""FMRILM: fMRI tokenizer -> projection -> causal language model (fMRI-LM, arXiv 2511.21760).

Tensor letters: B rows, N scan tokens, L tokens of scan and text, C candidates, D width of the LM.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmrilm.config import LMConfig, ModelConfig, TokenizerConfig
from fmrilm.errors import InputError
from fmrilm.models.adapters import add_lora, has_adapter
from fmrilm.models.codes import codes_loss, next_step_target, write_codes
from fmrilm.models.decoding import (
    AllowedAnswers,
    OnText,
    Prefix,
    continue_text,
    extend,
    greedy,
    prefill,
    sampler,
    score_candidates,
)
from fmrilm.models.lm import load_language_model, reload_language_model, save_language_model
from fmrilm.models.masks import attention_bias, positions
from fmrilm.models.text import IGNORED, SCAN_ID, TextEncoder
from fmrilm.models.tokenizer import FMRITokenizer


class FMRILM(nn.Module):
    """A language model that reads scans.

    Parameters
    ----------
    config : ModelConfig
    tokenizer : FMRITokenizer
        Frozen and in evaluation mode, unless ``config.lm.tune_tokenizer``.
    lm : PreTrainedModel
        Any causal language model of transformers, or a peft model around one.
    text_tokenizer : PreTrainedTokenizerBase
        Its text tokenizer.
    """

    def __init__(
        self, config: ModelConfig, tokenizer: FMRITokenizer, lm: Any, text_tokenizer: Any
    ) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.lm = lm
        self.text = TextEncoder(
            text_tokenizer, tokenizer.config.num_tokens, config.lm.add_fmri_delimiter
        )
        width = lm.get_input_embeddings().embedding_dim
        self.projector = nn.Sequential(
            nn.LayerNorm(tokenizer.config.size[0]),
            nn.Linear(tokenizer.config.size[0], width),
            nn.GELU(),
            nn.Linear(width, width),
        )
        self.dropout = nn.Dropout(config.lm.dropout)
        self.roi_embed = nn.Parameter(torch.randn(tokenizer.config.num_rois, width) * 0.02)
        self.mask_embed = nn.Parameter(torch.zeros(width))
        self.start_embed = nn.Parameter(torch.zeros(width))  # text to fMRI: before the first patch
        self.fmri_head = nn.Linear(width, tokenizer.codebook_size)
        self.cls_head = nn.Linear(width, config.lm.num_classes) if config.lm.use_cls_head else None
        self.value_scale: Tensor  # mean and spread of the trained values, for a head of one output
        self.register_buffer("value_scale", torch.tensor([0.0, 1.0]))
        self.tokenizer.requires_grad_(config.lm.tune_tokenizer)

    def train(self, mode: bool = True) -> FMRILM:
        """Switch to training mode; a frozen tokenizer stays in evaluation mode."""
        super().train(mode)
        if not self.config.lm.tune_tokenizer:
            self.tokenizer.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.roi_embed.device

    # Reading -------------------------------------------------------------------------------------

    def features(self, fmri: Tensor, roi_mask: Tensor | None = None) -> Tensor:
        """Return what the language model is given of scans (B, R, T), before projection (B, N, D).

        Encoder features (``fmri_input: continuous``) or codebook vectors (``quantized``).
        """
        return self.encode(fmri, roi_mask)[0]

    def encode(self, fmri: Tensor, roi_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return :meth:`features` (B, N, D) and code indices (B, N) of scans, in one pass."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.lm.tune_tokenizer):
            features = self.tokenizer.encode(fmri, roi_mask)
            quantized = self.tokenizer.quantizer(features)
            if self.config.lm.fmri_input == "quantized":
                features = quantized.codes
        return features, quantized.indices

    def project(self, features: Tensor) -> Tensor:
        """Return scan embeddings (B, N, D) in the language model's space."""
        x = self.projector(features) + self.roi_embed.repeat(self.tokenizer.config.num_steps, 1)
        return self.dropout(x)

    def read(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        scan: Tensor | None = None,
        roi_mask: Tensor | None = None,
        **options: Any,
    ) -> tuple[Any, Tensor, Tensor]:
        """Run the language model over prompts with scans in their places.

        Parameters
        ----------
        input_ids, attention_mask : Tensor, shape (B, L)
            As :meth:`TextEncoder.batch` makes them.
        scan : Tensor, shape (B, N, D)
            Projected scans.
        roi_mask : Tensor of bool, shape (B, R), optional
        **options
            Handed to the language model, e.g. ``logits_to_keep``.

        Returns
        -------
        output, position (B, L), valid (B, L)
        """
        is_scan = input_ids == SCAN_ID
        embeds = self.lm.get_input_embeddings()(input_ids.masked_fill(is_scan, 0))
        valid = attention_mask.bool()
        if scan is not None:
            embeds = embeds.masked_scatter(is_scan[:, :, None], scan.to(embeds.dtype))
            if roi_mask is not None:
                usable = self.tokenizer.token_mask(roi_mask)
                valid = valid.masked_scatter(is_scan, usable)
        position = positions(is_scan, attention_mask.bool(), self.tokenizer.config.num_rois)
        output = self.lm(
            inputs_embeds=embeds,
            attention_mask=attention_bias(position, position, valid, embeds.dtype),
            position_ids=position,
            **options,
        )
        return output, position, valid

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        fmri: Tensor | None = None,
        roi_mask: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Return the mean cross-entropy of the supervised text tokens.

        Logits are computed only for the columns in which some row is supervised.

        Parameters
        ----------
        input_ids, attention_mask, labels : Tensor, shape (B, L)
        fmri : Tensor, shape (B, R, T), optional
            Absent for text without a scan.
        features : Tensor, shape (B, N, D), optional
            What :meth:`features` gave for ``fmri`` before, instead of it.
        """
        if features is None and fmri is not None:
            features = self.features(fmri, roi_mask)
        scan = None if features is None else self.project(features)
        columns = (labels != IGNORED).any(0).nonzero().squeeze(1) - 1
        output, _, _ = self.read(
            input_ids, attention_mask, scan, roi_mask, logits_to_keep=columns, use_cache=False
        )
        logits = output.logits.float()  # (B, len(columns), V)
        return F.cross_entropy(logits.flatten(0, 1), labels[:, columns + 1].flatten())

    def losses(
        self, batch: Mapping[str, Tensor], features: Tensor, codes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the text loss and the next-step code loss of one pass over scans and texts.

        Only where there are several time patches: with one, :meth:`code_loss` hides tokens that
        the text has to see.

        Parameters
        ----------
        batch : mapping
            ``input_ids``, ``attention_mask``, ``labels`` (B, L) and ``roi_mask`` (B, R).
        features : Tensor, shape (B, N, D)
        codes : Tensor of long, shape (B, N)
        """
        with self.last_states() as states:
            text = self(
                batch["input_ids"],
                batch["attention_mask"],
                batch["labels"],
                roi_mask=batch["roi_mask"],
                features=features,
            )
        is_scan = batch["input_ids"] == SCAN_ID
        of_scan = states[0][is_scan].view(*codes.shape, -1)
        return text, codes_loss(self, of_scan, next_step_target(self, codes, batch["roi_mask"]))

    def code_loss(
        self,
        fmri: Tensor,
        roi_mask: Tensor,
        mask_ratio: float,
        features: Tensor | None = None,
        codes: Tensor | None = None,
    ) -> Tensor:
        """Return the cross-entropy of predicted fMRI codes, the fMRI-only objective.

        With several time patches each token predicts the code of its region in the next patch.
        With one patch that would be its own code; there a share ``mask_ratio`` of the tokens is
        masked, and theirs are predicted.

        Parameters
        ----------
        fmri : Tensor, shape (B, R, T)
        roi_mask : Tensor of bool, shape (B, R)
        mask_ratio : float
        features, codes : Tensor, shapes (B, N, D) and (B, N), optional
            What :meth:`encode` gave for ``fmri`` before.
        """
        if codes is None or features is None:
            features, codes = self.encode(fmri, roi_mask)
        scan = self.project(features)
        if self.tokenizer.config.num_steps > 1:
            target = next_step_target(self, codes, roi_mask)
        else:
            hidden = torch.rand(codes.shape, device=codes.device) < mask_ratio
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
        return self.cls_head(states)

    def hidden_states(self, ids: Tensor, scan: Tensor, roi_mask: Tensor) -> Tensor:
        """Return the language model's last hidden states (B, L, D), without any logits."""
        is_scan = ids == SCAN_ID
        valid = self.tokenizer.token_mask(roi_mask)
        position = positions(is_scan, torch.ones_like(valid), self.tokenizer.config.num_rois)
        return self._causal_lm().base_model(
            inputs_embeds=scan,
            attention_mask=attention_bias(position, position, valid, scan.dtype),
            position_ids=position,
            use_cache=False,
        )[0]

    # Answering -----------------------------------------------------------------------------------

    def prefill(
        self, fmri: Tensor | None, roi_mask: Tensor | None, prompts: Sequence[str]
    ) -> Prefix:
        """Read prompts once; see :func:`fmrilm.models.decoding.prefill`."""
        return prefill(self, fmri, roi_mask, prompts)

    def extend(self, prefix: Prefix, ids: Tensor) -> Tensor:
        """Read more text after a prefix; see :func:`fmrilm.models.decoding.extend`."""
        return extend(self, prefix, ids)

    def score(
        self,
        fmri: Tensor | None,
        roi_mask: Tensor | None,
        prompts: Sequence[str],
        candidates: Sequence[str],
    ) -> Tensor:
        """Return the log-probability of every candidate answer, per token, shape (B * P, C).

        Parameters
        ----------
        fmri : Tensor, shape (B, R, T), or None
            None: the prompt alone, without the scan.
        roi_mask : Tensor of bool, shape (B, R), or None
        prompts : sequence of B * P str
            With :data:`SCAN_MARK` where the scan stands; P for the first scan, then P for the
            second and so on. A scan is read once for all its prompts.
        candidates : sequence of C str

        Notes
        -----
        The log-probabilities of a candidate's tokens are averaged, so that a long answer is not
        worse than a short one for its length. The prompt is read once for all candidates.
        """
        return score_candidates(self, self.prefill(fmri, roi_mask, prompts), candidates)

    def ask(
        self,
        fmri: Tensor,
        roi_mask: Tensor | None,
        questions: Sequence[tuple[str, Sequence[str]]],
    ) -> list[Tensor]:
        """Return the scores (B, C) of several questions about the same scans, each read once.

        Parameters
        ----------
        fmri : Tensor, shape (B, R, T)
        roi_mask : Tensor of bool, shape (B, R), or None
        questions : sequence of (prompt, candidates)
        """
        prompts = [prompt for prompt, _ in questions]
        prefix = self.prefill(fmri, roi_mask, prompts * len(fmri))
        groups: dict[tuple[str, ...], Tensor] = {}
        for _, candidates in questions:  # the same answers are scored together
            if tuple(candidates) not in groups:
                scores = score_candidates(self, prefix, candidates)
                groups[tuple(candidates)] = scores.view(len(fmri), len(prompts), -1)
        return [groups[tuple(candidates)][:, q] for q, (_, candidates) in enumerate(questions)]

    def expect(
        self,
        fmri: Tensor | None,
        roi_mask: Tensor | None,
        prompts: Sequence[str],
        values: Sequence[float],
    ) -> Tensor:
        """Return the expected value of a number the model is asked for, shape (B * P,).

        The mean of ``values`` under the probabilities of writing each of them in full, end of
        answer included, so that "5" is not counted for being the beginning of "52".
        """
        numbers = [format(value, "g") for value in values]
        prefix = self.prefill(fmri, roi_mask, prompts)
        logp = score_candidates(self, prefix, numbers, end=True)
        return logp.softmax(-1) @ torch.tensor(list(values), dtype=logp.dtype, device=self.device)

    def classify(self, fmri: Tensor, roi_mask: Tensor | None, prompts: Sequence[str]) -> Tensor:
        """Return what the head says after the prompts, (B, num_classes) (``use_cls_head``).

        Log-probabilities of the classes; with one output a value, in the units of the labels.
        """
        batch = self.text.batch([self.text.prompt_ids(prompt) for prompt in prompts])
        with torch.no_grad(), self.last_states() as states:
            self.read(
                batch["input_ids"].to(self.device),
                batch["attention_mask"].to(self.device),
                self.project(self.features(fmri, roi_mask)),
                roi_mask,
                logits_to_keep=1,
                use_cache=False,
            )
            output = self.head_output(states[0][:, -1])
        if self.config.lm.num_classes == 1:
            return output * self.value_scale[1] + self.value_scale[0]
        return output.log_softmax(-1)

    def generate(
        self,
        fmri: Tensor | None,
        roi_mask: Tensor | None,
        prompts: Sequence[str],
        max_new_tokens: int = 64,
        do_sample: bool = False,
        allowed: Sequence[str] | None = None,
        on_text: OnText | None = None,
    ) -> list[str]:
        """Return one continuation per prompt; greedy, or sampled with the configured settings.

        Parameters
        ----------
        fmri, roi_mask, prompts
            As for :meth:`score`.
        max_new_tokens : int
        do_sample : bool
        allowed : sequence of str, optional
            The only answers that may be given.
        on_text : callable, optional
            Called after every token with the new piece of each row's text.
        """
        constraint = None if allowed is None else AllowedAnswers(self, allowed)
        prefix = self.prefill(fmri, roi_mask, prompts)
        choose = self._chooser(do_sample)
        return continue_text(self, prefix, max_new_tokens, choose, constraint, on_text)

    def generate_scan(self, descriptions: Sequence[str], do_sample: bool = False) -> Tensor:
        """Return series (B, R, T) that fit descriptions: codes by the LM, decoded by the tokenizer.

        They are what a model trained with ``align.text2fmri_weight`` makes of the text, no
        measurement.
        """
        with torch.no_grad():
            codes = write_codes(self, descriptions, self._chooser(do_sample))
            return self.tokenizer.decode_indices(codes)

    def _chooser(self, do_sample: bool) -> Callable[[Tensor], Tensor]:
        lm = self.config.lm
        return sampler(lm.temperature, lm.top_k, lm.top_p) if do_sample else greedy

    # Files ---------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config, language model, and everything around it (safetensors and JSON)."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(folder / "tokenizer")
        save_language_model(self.lm, self.text.text_tokenizer, folder / "lm", self.config.lm)
        state = {
            name: value.contiguous()
            for name, value in self.state_dict().items()
            if not name.startswith(("lm.", "tokenizer."))
        }
        save_file(state, folder / "bridge.safetensors")
        config = json.dumps(dataclasses.asdict(self.config), indent=2)
        (folder / "config.json").write_text(config, encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> FMRILM:
        """Read what :meth:`save_pretrained` wrote, adapters included; in evaluation mode.

        Raises
        ------
        FileNotFoundError
            If the folder holds no model.
        """
        from safetensors.torch import load_file

        folder = Path(folder)
        if not (folder / "bridge.safetensors").is_file():
            raise FileNotFoundError(
                f"{folder} holds no model: make one with `fmrilm train align` or `instruct`"
            )
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = ModelConfig(TokenizerConfig(**values["vq_model"]), LMConfig(**values["lm"]))
        lm, text_tokenizer = reload_language_model(config.lm, folder / "lm")
        model = cls(config, FMRITokenizer.from_pretrained(folder / "tokenizer"), lm, text_tokenizer)
        own = {name for name in model.state_dict() if not name.startswith(("lm.", "tokenizer."))}
        bridge = load_file(folder / "bridge.safetensors")
        if own != set(bridge):
            raise InputError(f"{folder} does not fit this version: {sorted(own ^ set(bridge))}")
        model.load_state_dict(bridge, strict=False)
        return model.eval()


def build_fmrilm(
    config: ModelConfig, tokenizer: FMRITokenizer, texts: Sequence[str] = ()
) -> FMRILM:
    """Return a new model around a trained tokenizer, with LoRA if the configuration says so."""
    lm, text_tokenizer = load_language_model(config.lm, texts)
    if config.lm.freeze_llm:
        lm.requires_grad_(False)
    if config.lm.peft_tune:
        lm = add_lora(lm, config.lm)
    config = dataclasses.replace(config, vq_model=tokenizer.config)
    return FMRILM(config, tokenizer, lm, text_tokenizer)
