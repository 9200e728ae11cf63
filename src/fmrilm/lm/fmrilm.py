"""FMRILM: fMRI tokenizer -> projection -> causal language model (fMRI-LM, arXiv 2511.21760).

Tensor letters: B scans, P prompts per scan, C candidates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fmrilm.config.schema import ModelConfig
from fmrilm.errors import InputError
from fmrilm.lm.adapters import add_lora
from fmrilm.lm.answer_tree import answer_log_probabilities
from fmrilm.lm.codes import write_codes
from fmrilm.lm.decoding import (
    OnText,
    Prefix,
    continue_ids,
    continue_text,
    extend,
    greedy,
    prefill,
    sampler,
)
from fmrilm.lm.interface import Scan
from fmrilm.lm.language_models import (
    identify,
    load_language_model,
)
from fmrilm.lm.saved import SavedModel
from fmrilm.lm.text import without_scan
from fmrilm.tokenizer.tokenizer import FMRITokenizer


class FMRILM(SavedModel):
    """A language model that is asked about scans, saved and loaded.

    Parameters are those of :class:`FMRIReader`; make one with :func:`build_fmrilm` or
    :meth:`from_pretrained`.
    """

    # Answering -----------------------------------------------------------------------------------

    def prefill(
        self,
        fmri: Tensor | None,
        roi_mask: Tensor | None,
        prompts: Sequence[str],
        summary_scan: Scan | None = None,
    ) -> Prefix:
        """Read prompts once; see :func:`fmrilm.lm.decoding.prefill`."""
        return prefill(self, fmri, roi_mask, prompts, summary_scan)

    def extend(self, prefix: Prefix, ids: Tensor) -> Tensor:
        """Read more text after a prefix; see :func:`fmrilm.lm.decoding.extend`."""
        return extend(self, prefix, ids)

    @torch.no_grad()
    def score(
        self,
        fmri: Tensor | None,
        roi_mask: Tensor | None,
        prompts: Sequence[str],
        candidates: Sequence[str],
        normalise: str | None = None,
        summary_scan: Scan | None = None,
    ) -> Tensor:
        """Return the log-probability of every candidate answer, shape (B * P, C).

        Of the whole answer and its end, as training maximises it: their softmax over candidates is
        the probability of each, given that it is one of them.

        Parameters
        ----------
        fmri : Tensor, shape (B, R, T), or None
            None: the prompt alone, without the scan.
        roi_mask : Tensor of bool, shape (B, R), or None
        prompts : sequence of B * P str
            With :data:`SCAN_MARK` where the scan stands (:func:`fmrilm.with_scan`); P for the first
            scan, then P for the second and so on. A scan is read once for all its prompts.
        candidates : sequence of C str
        normalise : str, optional
            ``length``: per token, without the end; see
            :func:`fmrilm.lm.answer_tree.answer_log_probabilities`.
        summary_scan : (Tensor, Tensor), optional
            Scans and masks whose summary stands in place of that of ``fmri``.

        Raises
        ------
        InputError
            If a prompt has not exactly one place for its scan.
        """
        prefix = self.prefill(fmri, roi_mask, prompts, summary_scan)
        return answer_log_probabilities(self, prefix, candidates, normalise)

    @torch.no_grad()
    def ask(
        self,
        fmri: Tensor,
        roi_mask: Tensor | None,
        questions: Sequence[tuple[str | Sequence[str], Sequence[str]]],
        normalise: str | None = None,
        summary_scan: Scan | None = None,
    ) -> list[Tensor]:
        """Return the scores (B, C) of several questions about the same scans, each read once.

        Parameters
        ----------
        fmri : Tensor, shape (B, R, T)
        roi_mask : Tensor of bool, shape (B, R), or None
        questions : sequence of (prompt, candidates)
            The prompt is one for all scans, or one per scan.
        normalise : str, optional
        summary_scan : (Tensor, Tensor), optional
            As for :meth:`score`.
        """
        asked = [
            [prompt] * len(fmri) if isinstance(prompt, str) else prompt for prompt, _ in questions
        ]
        for prompts in asked:
            if len(prompts) != len(fmri):
                raise InputError(
                    f"{len(prompts)} prompts for {len(fmri)} scans: give one for all, or one each"
                )
        in_turn = [prompt for of_scan in zip(*asked, strict=True) for prompt in of_scan]
        prefix = self.prefill(fmri, roi_mask, in_turn, summary_scan)
        groups: dict[tuple[str, ...], list[int]] = {}
        for q, (_, candidates) in enumerate(questions):  # the same answers are scored together
            groups.setdefault(tuple(candidates), []).append(q)
        scores: dict[int, Tensor] = {}
        for candidates, asking in groups.items():
            rows = [scan * len(questions) + q for scan in range(len(fmri)) for q in asking]
            table = answer_log_probabilities(self, prefix, candidates, normalise, rows)
            table = table.view(len(fmri), len(asking), -1)
            scores |= {q: table[:, i] for i, q in enumerate(asking)}
        return [scores[q] for q in range(len(questions))]

    def expect(
        self,
        fmri: Tensor | None,
        roi_mask: Tensor | None,
        prompts: Sequence[str],
        values: Sequence[float],
        summary_scan: Scan | None = None,
    ) -> Tensor:
        """Return the expected value of a number the model is asked for, shape (B * P,).

        The mean of ``values`` under the probabilities of writing each of them, as :meth:`score`
        gives them.
        """
        numbers = [format(value, "g") for value in values]
        logp = self.score(fmri, roi_mask, prompts, numbers, summary_scan=summary_scan)
        return logp.softmax(-1) @ torch.tensor(list(values), dtype=logp.dtype, device=self.device)

    def classify(
        self,
        fmri: Tensor | None,
        roi_mask: Tensor | None,
        prompts: Sequence[str],
        summary_scan: Scan | None = None,
    ) -> Tensor:
        """Return what the head says after the prompts, (B, num_classes) (``use_cls_head``).

        Log-probabilities of the classes; with one output a value, in the units of the labels.
        Without a scan (None) the prompts alone are read.
        """
        if fmri is None:
            prompts = [without_scan(prompt) for prompt in prompts]
        batch = self.text.batch([self.text.prompt_ids(prompt) for prompt in prompts])
        with torch.no_grad(), self.last_states() as states:
            self.read(
                batch["input_ids"].to(self.device),
                batch["attention_mask"].to(self.device),
                None if fmri is None else self.project(fmri, roi_mask, None, summary_scan),
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
        fmri: Tensor | None = None,
        roi_mask: Tensor | None = None,
        prompts: Sequence[str] | None = None,
        max_new_tokens: int = 64,
        do_sample: bool = False,
        allowed: Sequence[str] | None = None,
        on_text: OnText | None = None,
        **inputs: Tensor,
    ) -> Any:
        """One continuation per prompt; greedy, or sampled with the configured settings.

        Decoding is ours behind the interface of transformers: its own grows a 2-D mask by one
        column per token and counts positions up, while the prefix rule needs a 4-D mask in which
        the regions of a time step share a position (docs/background/language-models.md).

        Parameters
        ----------
        fmri, roi_mask, prompts
            As for :meth:`score`.
        input_ids, attention_mask : Tensor of long, shape (B, L)
            In place of ``prompts``, as :class:`~fmrilm.processing.processor.FMRIProcessor` makes
            them.
        max_new_tokens : int
        do_sample : bool
        allowed : sequence of str, optional
            The only answers that may be given. Chosen is a whole one, by its score: the best, or
            with ``do_sample`` one drawn.
        on_text : callable, optional
            Called after every token with the new piece of each row's text, of ``allowed`` answers
            once.

        Returns
        -------
        texts : list of str
            With ``input_ids`` the new tokens instead, Tensor (B, at most ``max_new_tokens``),
            padded on the right.
        """
        if allowed is not None and not allowed:
            raise InputError("no answer is allowed: name at least one, or leave out `allowed`")
        if prompts is None:
            if allowed is not None:
                raise InputError("`allowed` goes with `prompts`, not with input_ids")
            return self._generate_ids(fmri, roi_mask, max_new_tokens, do_sample, **inputs)
        if inputs:
            raise InputError(f"generate was given prompts and {', '.join(inputs)}: give one")
        prefix = self.prefill(fmri, roi_mask, prompts)
        choose = self._chooser(do_sample)
        if allowed is None:
            return continue_text(self, prefix, max_new_tokens, choose, on_text)
        with torch.no_grad():
            chosen = choose(answer_log_probabilities(self, prefix, allowed))
        texts = [allowed[index] for index in chosen.tolist()]
        if on_text is not None:
            on_text(texts)
        return texts

    def _generate_ids(
        self,
        fmri: Tensor | None,
        roi_mask: Tensor | None,
        max_new_tokens: int,
        do_sample: bool,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows = [ids[seen.bool()].tolist() for ids, seen in zip(input_ids, mask, strict=True)]
        prefix = prefill(self, fmri, roi_mask, rows)
        said = continue_ids(self, prefix, max_new_tokens, self._chooser(do_sample))
        new = torch.full((len(said), max(map(len, said))), self.text.pad_id)
        for row, ids in zip(new, said, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        return new.to(self.device)

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


def build_fmrilm(
    config: ModelConfig,
    tokenizer: FMRITokenizer,
    texts: Sequence[str] = (),
    lm_folder: Path | None = None,
) -> FMRILM:
    """Return a new model around a trained tokenizer, with LoRA if the configuration says so.

    Parameters
    ----------
    config : ModelConfig
    tokenizer : FMRITokenizer
    texts : sequence of str
        What the built-in language model's text tokenizer is trained on.
    lm_folder : Path, optional
        Where the language model lies, if stage 1 made it.
    """
    source = config.lm
    if lm_folder is not None:
        source = dataclasses.replace(source, base_model=str(lm_folder))
    lm, text_tokenizer = load_language_model(source, texts)
    base = identify(lm, config.lm.base_model)
    if config.lm.freeze_llm:
        lm.requires_grad_(False)
    if config.lm.peft_tune:
        lm = add_lora(lm, config.lm)
    config = dataclasses.replace(config, vq_model=tokenizer.config.vq_model)
    model = FMRILM(config, tokenizer, lm, text_tokenizer)
    model.base = base
    return model
