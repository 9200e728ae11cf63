"""Text around a scan as token ids: chat template, scan placeholder, left padding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fmrilm.config.schema import SCAN_MARK, ModelConfig
from fmrilm.errors import InputError
from fmrilm.lm.configuration import FMRILMConfig

SCAN_ID = -200  # placeholder in input_ids; a scan's embeddings take its place
IGNORED = -100  # label that no loss sees


def with_scan(prompt: str) -> str:
    """Return a prompt that has a place for its scan: in front, unless there is one already."""
    return prompt if SCAN_MARK in prompt else f"{SCAN_MARK}\n{prompt}"


def without_scan(prompt: str) -> str:
    """Return a prompt to be read without a scan."""
    return prompt.replace(SCAN_MARK, "").lstrip()


def check_places(input_ids: Tensor, scans: int, tokens: int) -> None:
    """Raise :class:`InputError` unless every row has a place for every token of its own scan.

    Scans are written into the places of a batch one after the other: with a place too few a row
    would be read without its scan, and the next one with the scan of another.

    Parameters
    ----------
    input_ids : Tensor of long, shape (B, L)
    scans : int
        Scans that are put into the places.
    tokens : int
        Tokens of a scan; 0: there are no scans.
    """
    if tokens and len(input_ids) != scans:
        raise InputError(
            f"{len(input_ids)} prompts for {scans} scans: every prompt goes with one scan"
        )
    places = (input_ids == SCAN_ID).sum(1)
    wrong = (places != tokens).nonzero().flatten()
    if not len(wrong):
        return
    row = int(wrong[0])
    if not tokens:
        raise InputError(f"prompt {row + 1} has a place for a scan, but no scan is given")
    raise InputError(
        f"prompt {row + 1} of the batch has {int(places[row])} places for the {tokens} tokens of "
        f"its scan: put {SCAN_MARK} once where the scan stands, as fmrilm.with_scan(prompt) does"
    )


class TextEncoder:
    """Turn prompts and answers into batches for one language model.

    Parameters
    ----------
    text_tokenizer : PreTrainedTokenizerBase
        Of the language model in use. Its chat template is used if it has one.
    num_scan_tokens : int
        Tokens of one scan.
    num_summary_tokens : int
        Tokens that sum the scan up, behind its own.
    add_delimiter : bool
        Put ``<fmri>`` and ``</fmri>`` around the scan.
    layout : str
        ``template``: the scan stands at its mark, delimiters are read as one with the text around
        them. As the original has it, delimiters by themselves and a space before answers:
        ``interleaved``, the scan stands first in what the user says, or ``prefix``, it stands
        before everything.
    """

    def __init__(
        self,
        text_tokenizer: Any,
        num_scan_tokens: int,
        add_delimiter: bool = True,
        num_summary_tokens: int = 0,
        layout: str = "template",
    ) -> None:
        self.layout = layout
        self.text_tokenizer = text_tokenizer
        self.num_scan_tokens = num_scan_tokens
        self.num_summary_tokens = num_summary_tokens
        self.delimiters = ("<fmri>", "</fmri>") if add_delimiter else ("", "")
        self._check()
        pad = text_tokenizer.pad_token_id
        self.pad_id = int(pad if pad is not None else text_tokenizer.eos_token_id)
        self.eos_id = int(text_tokenizer.eos_token_id)
        alone = text_tokenizer("")["input_ids"]
        adds_bos = alone[:1] == [text_tokenizer.bos_token_id] and not self.is_chat
        self.start_ids = alone[:1] if adds_bos else []  # a chat template writes its own

    @classmethod
    def of(cls, text_tokenizer: Any, config: ModelConfig | FMRILMConfig) -> TextEncoder:
        """The text encoder of a model."""
        lm, scan = config.lm, config.vq_model.num_tokens
        return cls(
            text_tokenizer, scan, lm.add_fmri_delimiter, lm.num_summary_tokens, lm.prompt_layout
        )

    def _check(self) -> None:
        """Raise :class:`InputError` if nothing can be asked, or no answer can end."""
        if self.text_tokenizer.eos_token_id is None:
            raise InputError(
                "the text tokenizer of the language model has no end-of-text token: set eos_token "
                "in its tokenizer_config.json, or take another language model"
            )
        if not self.is_chat:
            return
        from jinja2 import TemplateError

        try:
            asked = self._chat([{"role": "user", "content": SCAN_MARK}])
        except TemplateError as error:
            raise InputError(
                f"the chat template of the language model refuses a question of the user ({error})"
                ": correct it, or delete it from its tokenizer_config.json"
            ) from None
        if SCAN_MARK not in asked:
            raise InputError(
                f"the chat template of the language model changes {SCAN_MARK}, the place of the "
                "scan: correct it, or delete it from its tokenizer_config.json"
            )

    def _chat(self, messages: list[dict[str, str]]) -> str:
        """The text of a conversation up to where the next answer begins."""
        return self.text_tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )

    @property
    def num_places(self) -> int:
        """Placeholders of one scan: its tokens and those that sum it up."""
        return self.num_scan_tokens + self.num_summary_tokens

    @property
    def is_chat(self) -> bool:
        """Whether the language model has a chat template."""
        return getattr(self.text_tokenizer, "chat_template", None) is not None

    def _ids(self, text: str) -> list[int]:
        return self.text_tokenizer(text, add_special_tokens=False)["input_ids"]

    def prompt_ids(self, prompt: str) -> list[int]:
        """Return the ids of a prompt, with one placeholder per scan token at the mark.

        Raises
        ------
        InputError
            If there are several marks.
        """
        marks = prompt.count(SCAN_MARK)
        if marks > 1:
            raise InputError(f"{SCAN_MARK} stands in a prompt {marks} times: it is about one scan")
        if self.layout != "template" and marks:
            prompt = SCAN_MARK + prompt.replace(SCAN_MARK, "").lstrip()
        if self.is_chat:
            prompt = self._chat([{"role": "user", "content": prompt}])
        before, mark, after = prompt.partition(SCAN_MARK)
        if not mark:
            return self.start_ids + self._ids(before)
        scan = [SCAN_ID] * self.num_places
        opening, closing = self.delimiters
        if self.layout == "template":
            head = self.start_ids + self._ids(before + opening)
            return head + scan + self._ids(closing + after)
        scan = self._ids(opening) + scan + self._ids(closing)
        if self.layout == "prefix":
            return self.start_ids + scan + self._ids(before + after)
        return self.start_ids + self._ids(before) + scan + self._ids(after)

    def answer_ids(self, answer: str, end: bool = True) -> list[int]:
        """Return the ids of an answer, with the end-of-text token after it."""
        text = answer if self.is_chat and self.layout == "template" else f" {answer}"
        return self._ids(text) + ([self.eos_id] if end else [])

    def conversation(
        self, turns: Sequence[str], answers: Sequence[str]
    ) -> tuple[list[int], list[int]]:
        """Return ids and labels of several turns with their answers; only answers are supervised.

        Parameters
        ----------
        turns : sequence of str
            What is said to the model in turn; the scan's mark stands in the first.
        answers : sequence of str
            What it says each time.

        Raises
        ------
        InputError
            If the scan's mark stands in a later turn.
        """
        if any(SCAN_MARK in turn for turn in turns[1:]):
            raise InputError(f"{SCAN_MARK} belongs into the first turn of a conversation")
        ids = self.prompt_ids(turns[0])
        labels = [IGNORED] * len(ids)
        for i, answer in enumerate(answers):
            said = self.answer_ids(answer)
            following = self.next_turn_ids(turns[i + 1]) if i + 1 < len(turns) else []
            ids += said + following
            labels += said + [IGNORED] * len(following)
        return ids, labels

    def next_turn_ids(self, turn: str) -> list[int]:
        """Return the ids between an answer's end and the next answer: another question."""
        if not self.is_chat:
            return self._ids(f"\n{turn}")
        # What the chat template writes after an answer is found by giving it one.
        mark = "fmrilm-answer"
        messages = [("user", "?"), ("assistant", mark), ("user", turn)]
        text = self._chat([{"role": role, "content": content} for role, content in messages])
        after = text.partition(mark)[2]
        return self._ids(after.removeprefix(str(self.text_tokenizer.eos_token)))

    def scan_request_ids(self, description: str) -> list[int]:
        """Return the ids of a request for a scan that fits a description, its place at the end."""
        prompt = self.prompt_ids(f"{description}\nShow a scan that fits this description:")
        return prompt + self._ids(self.delimiters[0]) + [SCAN_ID] * self.num_scan_tokens

    def text_ids(self, text: str) -> list[int]:
        """The ids of running text: behind the start token, or the end of the text before."""
        return [*(self.start_ids or [self.eos_id]), *self._ids(text), self.eos_id]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, without special tokens."""
        return self.text_tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def batch(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]] | None = None
    ) -> dict[str, Tensor]:
        """Return left-padded ``input_ids``, ``attention_mask`` and, with answers, ``labels``.

        Only the answers are supervised; everything else is labelled -100.
        """
        endings: Sequence[Sequence[int]] = answers or [[]] * len(prompts)
        rows = [[*prompt, *end] for prompt, end in zip(prompts, endings, strict=True)]
        labelled = [[*[IGNORED] * len(p), *e] for p, e in zip(prompts, endings, strict=True)]
        return self.pad(rows, None if answers is None else labelled)

    def pad(
        self, rows: Sequence[Sequence[int]], labelled: Sequence[Sequence[int]] | None = None
    ) -> dict[str, Tensor]:
        """Return left-padded ``input_ids``, ``attention_mask`` and, if given, ``labels``."""
        length = max(len(row) for row in rows)
        ids = torch.full((len(rows), length), self.pad_id)
        mask = torch.zeros((len(rows), length), dtype=torch.long)
        labels = torch.full((len(rows), length), IGNORED)
        for i, row in enumerate(rows):
            ids[i, length - len(row) :] = torch.tensor(row)
            mask[i, length - len(row) :] = 1
        batch = {"input_ids": ids, "attention_mask": mask}
        if labelled is None:
            return batch
        for i, row in enumerate(labelled):
            labels[i, length - len(row) :] = torch.tensor(row)
        return {**batch, "labels": labels}


def train_text_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> Any:
    """Return a byte-level BPE tokenizer trained on ``texts``, wrapped for transformers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>", "<fmri>", "</fmri>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )


def load_text_tokenizer(source: str | Path) -> Any:
    """Return the text tokenizer in a folder, or of a Hugging Face name."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)
