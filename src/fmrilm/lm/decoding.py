"""Decoding from a prompt that was read once: prefix cache, generation.

Answers are scored in :mod:`fmrilm.lm.answer_tree`.

Tensor letters: B scans, P prompts per scan, L tokens, V text tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fmrilm.errors import InputError
from fmrilm.lm.interface import Scan, ScanReader, attention_masks, check_length
from fmrilm.lm.text import SCAN_ID, without_scan

OnText = Callable[[list[str]], None]


@dataclass
class Prefix:
    """A prompt that the language model has read: what decoding goes on from."""

    cache: Any  # keys and values of every layer
    position: Tensor  # (B, L) position of every token
    valid: Tensor  # (B, L) what may be looked at
    logits: Tensor  # (B, V) of the token after the prompt

    def pick(self, rows: Tensor) -> Prefix:
        """Return some rows, each as often as it is named; this one stays as it is."""
        cache = copy.copy(self.cache)
        # Selecting puts new tensors into the layers: layers have to be copied, tensors not.
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        cache.batch_select_indices(rows)
        return Prefix(cache, self.position[rows], self.valid[rows], self.logits[rows])

    def repeat(self, count: int) -> Prefix:
        """Return a copy in which every row stands ``count`` times in a row."""
        rows = torch.arange(len(self.logits), device=self.logits.device)
        return self.pick(rows.repeat_interleave(count))

    def fixed_cache(self) -> Any:
        """Return a cache that is read like this one's and keeps nothing of what is read after it.

        One layer at a time holds the prompt and what follows, not all of them.
        """
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        for layer, own in zip(cache.layers, self.cache.layers, strict=True):
            layer.update = partial(_update_of_copy, own)
        return cache


def _update_of_copy(layer: Any, *args: Any, **kwargs: Any) -> Any:
    return copy.copy(layer).update(*args, **kwargs)


@torch.no_grad()
def prefill(
    model: ScanReader,
    fmri: Tensor | None,
    roi_mask: Tensor | None,
    prompts: Sequence[str | list[int]],
    summary_scan: Scan | None = None,
) -> Prefix:
    """Read prompts once, so that any number of continuations can be tried on them.

    Parameters
    ----------
    model : ScanReader
    fmri : Tensor, shape (B, R, T), or None
    roi_mask : Tensor of bool, shape (B, R), or None
    prompts : sequence of B * P str, or of token ids
        Scan by scan: all prompts of the first scan, then those of the second. With several per
        scan, what stands up to the scan's end is read once for all of them.
    summary_scan : (Tensor, Tensor), optional
        See :meth:`~fmrilm.lm.reader.FMRIReader.project`.

    Raises
    ------
    InputError
        If a prompt has not exactly one place for its scan.
    """
    if fmri is None:
        prompts = [without_scan(p) if isinstance(p, str) else p for p in prompts]
        return read_whole(model, None, None, [_ids(model, p) for p in prompts])
    per_scan, rest = divmod(len(prompts), len(fmri))
    if rest or not per_scan:
        raise InputError(f"{len(prompts)} prompts cannot be shared out among {len(fmri)} scans")
    scan = model.project(fmri, roi_mask, summary_scan=summary_scan)
    ids = [_ids(model, prompt) for prompt in prompts]
    heads, tails = zip(*(_split_after_scan(one) for one in ids), strict=True)
    shareable = all(
        heads[i] == heads[i - i % per_scan] and heads[i] and tails[i] for i in range(len(ids))
    )
    if per_scan == 1 or not shareable:
        if per_scan > 1:
            scan = scan.repeat_interleave(per_scan, 0)
            roi_mask = None if roi_mask is None else roi_mask.repeat_interleave(per_scan, 0)
        return read_whole(model, scan, roi_mask, ids)
    shared = read_whole(model, scan, roi_mask, list(heads[::per_scan])).repeat(per_scan)
    batch = model.text.batch(tails)
    mask = batch["attention_mask"].bool().to(model.device)
    extend(model, shared, batch["input_ids"].to(model.device), mask, last_only=True)
    return shared


def _ids(model: ScanReader, prompt: str | list[int]) -> list[int]:
    return model.text.prompt_ids(prompt) if isinstance(prompt, str) else prompt


def _split_after_scan(ids: list[int]) -> tuple[list[int], list[int]]:
    if SCAN_ID not in ids:
        return [], ids
    end = len(ids) - ids[::-1].index(SCAN_ID)
    return ids[:end], ids[end:]


def read_whole(
    model: ScanReader, scan: Tensor | None, roi_mask: Tensor | None, ids: list[list[int]]
) -> Prefix:
    """Return prompts (token ids) that were read with projected scans in their places.

    Differentiable, unlike :func:`prefill`.
    """
    from transformers import DynamicCache

    batch = model.text.batch(ids)
    output, position, valid = model.read(
        batch["input_ids"].to(model.device),
        batch["attention_mask"].to(model.device),
        scan,
        roi_mask,
        logits_to_keep=1,
        use_cache=True,
        # made without the configuration, it keeps all keys: what a window hides, the mask hides
        cache=DynamicCache(),
    )
    return Prefix(output.cache, position, valid, output.logits[:, -1].float())


@torch.no_grad()
def extend(
    model: ScanReader,
    prefix: Prefix,
    ids: Tensor,
    mask: Tensor | None = None,
    last_only: bool = False,
) -> Tensor:
    """Read more text (B, L2) after a prefix and return its logits (B, L2, V).

    The prefix then includes the text.

    Parameters
    ----------
    model : ScanReader
    prefix : Prefix
    ids : Tensor of long, shape (B, L2)
    mask : Tensor of bool, shape (B, L2), optional
        False for padding on the left; None: there is none.
    last_only : bool
        Compute logits of the last token only, shape (B, 1, V).
    """
    mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    position = prefix.position[:, -1:] + mask.long().cumsum(1)
    prefix.position = torch.cat([prefix.position, position], 1)
    prefix.valid = torch.cat([prefix.valid, mask], 1)
    check_length(prefix.position, model.lm)
    embeds = model.lm.get_input_embeddings()(ids)
    output = model.lm(
        inputs_embeds=embeds,
        attention_mask=attention_masks(
            model.lm, position, prefix.position, prefix.valid, embeds.dtype
        ),
        position_ids=position,
        cache=prefix.cache,
        use_cache=True,
        logits_to_keep=int(last_only),  # 0: all
    )
    prefix.logits = output.logits[:, -1].float()
    return output.logits.float()


def continue_text(
    model: ScanReader,
    prefix: Prefix,
    max_new_tokens: int,
    choose: Callable[[Tensor], Tensor],
    on_text: OnText | None = None,
) -> list[str]:
    """What the model writes after a prefix, one text per row; see :func:`continue_ids`."""
    rows = continue_ids(model, prefix, max_new_tokens, choose, on_text)
    return [model.text.decode(_until(row, model.text.eos_id)) for row in rows]


@torch.no_grad()
def continue_ids(
    model: ScanReader,
    prefix: Prefix,
    max_new_tokens: int,
    choose: Callable[[Tensor], Tensor],
    on_text: OnText | None = None,
) -> list[list[int]]:
    """The tokens that the model writes after a prefix, of each row up to and with its end.

    Parameters
    ----------
    model : ScanReader
    prefix : Prefix
        Includes the new text afterwards.
    max_new_tokens : int
    choose : callable
        Logits (B, V) -> tokens (B,).
    on_text : callable, optional
        Told after every token what is new in each row; the pieces of a row make up its text.
    """
    rows: list[list[int]] = [[] for _ in range(len(prefix.logits))]
    shown = [""] * len(rows)
    eos = model.text.eos_id
    ended = torch.zeros(len(rows), dtype=torch.bool, device=model.device)
    for _ in range(max_new_tokens):
        token = choose(prefix.logits).masked_fill(ended, eos)
        for row, one in zip(rows, token.tolist(), strict=True):
            if not row or row[-1] != eos:
                row.append(one)
        ended |= token == eos
        if on_text is not None:
            shown = _tell(model, rows, shown, on_text, bool(ended.all()))
        if bool(ended.all()):
            break
        extend(model, prefix, token[:, None])
    return rows


def _tell(
    model: ScanReader, rows: list[list[int]], shown: list[str], on_text: OnText, last: bool
) -> list[str]:
    texts = [model.text.decode(_until(row, model.text.eos_id)) for row in rows]
    # Half a character decodes to the replacement sign: it waits for its other half.
    whole = [
        text if last else old if text.endswith("\ufffd") else text
        for old, text in zip(shown, texts, strict=True)
    ]
    on_text([text[len(old) :] for old, text in zip(shown, whole, strict=True)])
    return whole


def _until(row: list[int], end: int) -> list[int]:
    return row[: row.index(end)] if end in row else row


def greedy(logits: Tensor) -> Tensor:
    """Return the most likely token of every row (B,)."""
    return logits.argmax(-1)


def sampler(temperature: float, top_k: int, top_p: float) -> Callable[[Tensor], Tensor]:
    """Return a function that draws one of the most likely tokens of every row."""

    def draw(logits: Tensor) -> Tensor:
        value, index = (logits / temperature).topk(min(top_k, logits.shape[-1]), -1)  # descending
        share = value.softmax(-1)
        value = value.masked_fill(share.cumsum(-1) - share > top_p, float("-inf"))
        return index.gather(1, torch.multinomial(value.softmax(-1), 1)).squeeze(1)

    return draw
