"""FMRILM: fMRI tokenizer -> projection -> causal language model (fMRI-LM, arXiv 2511.21760).

Tensor letters: B scans, P prompts per scan, C candidates.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fmrilm.config import SCAN_MARK, LMConfig, ModelConfig, TokenizerConfig
from fmrilm.errors import InputError
from fmrilm.models.adapters import add_lora
from fmrilm.models.codes import write_codes
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
from fmrilm.models.reading import FMRIReader
from fmrilm.models.tokenizer import FMRITokenizer

MAX_BRANCHES = 256  # copies of a prefix in memory while numbers are scored


class FMRILM(FMRIReader):
    """A language model that is asked about scans, saved and loaded.

    Parameters are those of :class:`FMRIReader`; make one with :func:`build_fmrilm` or
    :meth:`from_pretrained`.
    """

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
        questions: Sequence[tuple[str | Sequence[str], Sequence[str]]],
    ) -> list[Tensor]:
        """Return the scores (B, C) of several questions about the same scans, each read once.

        Parameters
        ----------
        fmri : Tensor, shape (B, R, T)
        roi_mask : Tensor of bool, shape (B, R), or None
        questions : sequence of (prompt, candidates)
            The prompt is one for all scans, or one per scan.
        """
        prompts = [
            prompt if isinstance(prompt, str) else prompt[scan]
            for scan in range(len(fmri))
            for prompt, _ in questions
        ]
        prefix = self.prefill(fmri, roi_mask, prompts)
        groups: dict[tuple[str, ...], list[int]] = {}
        for q, (_, candidates) in enumerate(questions):  # the same answers are scored together
            groups.setdefault(tuple(candidates), []).append(q)
        found: dict[int, Tensor] = {}
        for candidates, asking in groups.items():
            rows = [scan * len(questions) + q for scan in range(len(fmri)) for q in asking]
            scores = score_candidates(self, prefix, candidates, rows=rows)
            scores = scores.view(len(fmri), len(asking), -1)
            found |= {q: scores[:, i] for i, q in enumerate(asking)}
        return [found[q] for q in range(len(questions))]

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
        count = max(1, MAX_BRANCHES // len(prefix.logits))
        parts = [numbers[start : start + count] for start in range(0, len(numbers), count)]
        logp = torch.cat([score_candidates(self, prefix, one, end=True) for one in parts], 1)
        return logp.softmax(-1) @ torch.tensor(list(values), dtype=logp.dtype, device=self.device)

    def classify(
        self, fmri: Tensor | None, roi_mask: Tensor | None, prompts: Sequence[str]
    ) -> Tensor:
        """Return what the head says after the prompts, (B, num_classes) (``use_cls_head``).

        Log-probabilities of the classes; with one output a value, in the units of the labels.
        Without a scan (None) the prompts alone are read.
        """
        if fmri is None:
            prompts = [prompt.replace(SCAN_MARK, "").lstrip() for prompt in prompts]
        batch = self.text.batch([self.text.prompt_ids(prompt) for prompt in prompts])
        with torch.no_grad(), self.last_states() as states:
            self.read(
                batch["input_ids"].to(self.device),
                batch["attention_mask"].to(self.device),
                None if fmri is None else self.project(fmri, roi_mask),
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
