"""FMRILM: fMRI tokenizer -> projection -> causal language model (fMRI-LM, arXiv 2511.21760).

Tensor letters: B rows, N scan tokens, L tokens of scan and text, C candidates, D width of the LM.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmrilm.config import SCAN_MARK, LMConfig, ModelConfig, TokenizerConfig
from fmrilm.errors import InputError
from fmrilm.models.lm import add_lora, load_language_model, save_language_model
from fmrilm.models.masks import attention_bias, positions
from fmrilm.models.text import IGNORED, SCAN_ID, TextEncoder
from fmrilm.models.tokenizer import FMRITokenizer


@dataclasses.dataclass
class Prefix:
    """A prompt that the language model has read: what decoding goes on from."""

    cache: Any  # keys and values of every layer
    position: Tensor  # (B, L) position of every token
    valid: Tensor  # (B, L) what may be looked at
    logits: Tensor  # (B, V) of the token after the prompt


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
        self.fmri_head = nn.Linear(width, tokenizer.codebook_size)
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
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.lm.tune_tokenizer):
            features = self.tokenizer.encode(fmri, roi_mask)
            if self.config.lm.fmri_input == "quantized":
                features = self.tokenizer.quantizer(features).codes
        return features

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

    def code_loss(
        self,
        fmri: Tensor,
        roi_mask: Tensor,
        mask_ratio: float,
        features: Tensor | None = None,
    ) -> Tensor:
        """Return the cross-entropy of predicted fMRI codes, the fMRI-only objective.

        With several time patches each token predicts the code of its region in the next patch.
        With one patch that would be its own code; there a share ``mask_ratio`` of the tokens is
        masked, and theirs are predicted.
        """
        with torch.no_grad():
            encoded = self.tokenizer.encode(fmri, roi_mask)
            codes = self.tokenizer.quantizer(encoded).indices  # (B, N)
        if features is None:
            features = self.features(fmri, roi_mask)
        scan = self.project(features)
        R = self.tokenizer.config.num_rois
        target = codes.masked_fill(~self.tokenizer.token_mask(roi_mask), IGNORED)
        if self.tokenizer.config.num_steps > 1:
            target = F.pad(target[:, R:], (0, R), value=IGNORED)
        else:
            hidden = torch.rand(codes.shape, device=codes.device) < mask_ratio
            scan = torch.where(hidden[:, :, None], self.mask_embed, scan)
            target = target.masked_fill(~hidden, IGNORED)
        ids = torch.full_like(codes, SCAN_ID)
        states = self.hidden_states(ids, scan, roi_mask)
        supervised = target != IGNORED
        return F.cross_entropy(self.fmri_head(states[supervised]), target[supervised])

    def hidden_states(self, ids: Tensor, scan: Tensor, roi_mask: Tensor) -> Tensor:
        """Return the language model's last hidden states (B, L, D), without any logits."""
        base = self.lm.get_base_model() if hasattr(self.lm, "peft_config") else self.lm
        is_scan = ids == SCAN_ID
        valid = self.tokenizer.token_mask(roi_mask)
        position = positions(is_scan, torch.ones_like(valid), self.tokenizer.config.num_rois)
        return base.base_model(
            inputs_embeds=scan,
            attention_mask=attention_bias(position, position, valid, scan.dtype),
            position_ids=position,
            use_cache=False,
        ).last_hidden_state

    # Answering -----------------------------------------------------------------------------------

    @torch.no_grad()
    def prefill(
        self, fmri: Tensor | None, roi_mask: Tensor | None, prompts: Sequence[str]
    ) -> Prefix:
        """Read prompts once, so that any number of continuations can be tried on them."""
        if fmri is None:
            prompts = [prompt.replace(SCAN_MARK, "").lstrip() for prompt in prompts]
            scan = None
        else:
            scan = self.project(self.features(fmri, roi_mask))
        batch = self.text.batch([self.text.prompt_ids(prompt) for prompt in prompts])
        output, position, valid = self.read(
            batch["input_ids"].to(self.device),
            batch["attention_mask"].to(self.device),
            scan,
            roi_mask,
            logits_to_keep=1,
            use_cache=True,
        )
        return Prefix(output.past_key_values, position, valid, output.logits[:, -1].float())

    @torch.no_grad()
    def extend(self, prefix: Prefix, ids: Tensor) -> Tensor:
        """Read more text (B, L2) after a prefix and return its logits (B, L2, V).

        The prefix then includes the text.
        """
        steps = torch.arange(1, ids.shape[1] + 1, device=ids.device)
        position = prefix.position[:, -1:] + steps
        prefix.position = torch.cat([prefix.position, position], 1)
        prefix.valid = torch.cat([prefix.valid, torch.ones_like(ids, dtype=torch.bool)], 1)
        embeds = self.lm.get_input_embeddings()(ids)
        output = self.lm(
            inputs_embeds=embeds,
            attention_mask=attention_bias(position, prefix.position, prefix.valid, embeds.dtype),
            position_ids=position,
            past_key_values=prefix.cache,
            use_cache=True,
        )
        prefix.logits = output.logits[:, -1].float()
        return output.logits.float()

    @torch.no_grad()
    def score(
        self,
        fmri: Tensor | None,
        roi_mask: Tensor | None,
        prompts: Sequence[str],
        candidates: Sequence[str],
    ) -> Tensor:
        """Return the log-probability of every candidate answer, per token, shape (B, C).

        Parameters
        ----------
        fmri : Tensor, shape (B, R, T), or None
            None: the prompt alone, without the scan.
        roi_mask : Tensor of bool, shape (B, R), or None
        prompts : sequence of B str
            With :data:`SCAN_MARK` where the scan stands.
        candidates : sequence of C str

        Notes
        -----
        The log-probabilities of a candidate's tokens are averaged, so that a long answer is not
        worse than a short one for its length. The prompt is read once for all candidates.
        """
        prefix = self.prefill(fmri, roi_mask, prompts)
        ids = [self.text.answer_ids(candidate, end=False) for candidate in candidates]
        lengths = torch.tensor([len(one) for one in ids], device=self.device)
        padded = torch.tensor(
            [one + [self.text.eos_id] * (int(lengths.max()) - len(one)) for one in ids],
            device=self.device,
        )  # (C, K)
        B, C, K = len(prefix.logits), *padded.shape
        first = prefix.logits.log_softmax(-1)[:, padded[:, 0]]  # (B, C)
        if K == 1:
            return first
        branch = Prefix(
            copy.deepcopy(prefix.cache),
            prefix.position.repeat_interleave(C, 0),
            prefix.valid.repeat_interleave(C, 0),
            prefix.logits,
        )
        branch.cache.batch_repeat_interleave(C)
        text = padded.repeat(B, 1)  # (B * C, K)
        logp = self.extend(branch, text[:, :-1]).log_softmax(-1)
        rest = logp.gather(2, text[:, 1:, None]).squeeze(2).view(B, C, K - 1)
        counts = torch.arange(1, K, device=self.device) < lengths[:, None]  # (C, K - 1)
        return (first + (rest * counts).sum(-1)) / lengths

    @torch.no_grad()
    def generate(
        self,
        fmri: Tensor | None,
        roi_mask: Tensor | None,
        prompts: Sequence[str],
        max_new_tokens: int = 64,
        do_sample: bool = False,
    ) -> list[str]:
        """Return one continuation per prompt; greedy, or sampled with the configured settings."""
        prefix = self.prefill(fmri, roi_mask, prompts)
        ended = torch.zeros(len(prompts), dtype=torch.bool, device=self.device)
        steps: list[Tensor] = []
        for _ in range(max_new_tokens):
            token = self._choose(prefix.logits, do_sample).masked_fill(ended, self.text.eos_id)
            steps.append(token)
            ended |= token == self.text.eos_id
            if bool(ended.all()):
                break
            self.extend(prefix, token[:, None])
        rows = torch.stack(steps, 1).tolist()
        return [self.text.decode(self._until_end(row)) for row in rows]

    def _until_end(self, row: list[int]) -> list[int]:
        return row[: row.index(self.text.eos_id)] if self.text.eos_id in row else row

    def _choose(self, logits: Tensor, do_sample: bool) -> Tensor:
        if not do_sample:
            return logits.argmax(-1)
        lm = self.config.lm
        logits = logits / lm.temperature
        value, index = logits.topk(min(lm.top_k, logits.shape[-1]), -1)  # descending
        share = value.softmax(-1)
        value = value.masked_fill(share.cumsum(-1) - share > lm.top_p, float("-inf"))
        return index.gather(1, torch.multinomial(value.softmax(-1), 1)).squeeze(1)

    # Files ---------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config, language model, and everything around it (safetensors and JSON)."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(folder / "tokenizer")
        save_language_model(self.lm, self.text.text_tokenizer, folder / "lm")
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
        lm, text_tokenizer = load_language_model(
            dataclasses.replace(config.lm, base_model=str(folder / "lm"))
        )
        adapter = folder / "lm" / "adapter"
        if adapter.is_dir():
            from peft import PeftModel

            lm = PeftModel.from_pretrained(lm, adapter, is_trainable=True)
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
