"""fMRI codes as a language: predicted from the scan so far, or written from a description.

Tensor letters: B scans, R regions, S time patches, N = S x R tokens, D width of the LM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fmrilm.lm.interface import ScanReader, attention_masks
from fmrilm.lm.text import IGNORED, SCAN_ID


def next_step_target(model: ScanReader, codes: Tensor, roi_mask: Tensor) -> Tensor:
    """Return for every token the code of its region in the next time patch, shape (B, N).

    Ignored where there is none, and in masked regions.
    """
    R = model.tokenizer.config.tokens_per_step
    target = codes.masked_fill(~model.tokenizer.token_mask(roi_mask), IGNORED)
    return F.pad(target[:, R:], (0, R), value=IGNORED)


def codes_loss(model: ScanReader, states: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy of codes (B, N) from hidden states (B, N, D); 0 if none counts."""
    model.tokenizer.quantizer.check_codes()
    supervised = target != IGNORED
    if not bool(supervised.any()):
        return states.sum() * 0.0
    logits, first = model.code_logits(states[supervised])
    return F.cross_entropy(logits.float(), target[supervised] + first)


def text_and_codes_loss(
    model: ScanReader, batch: Mapping[str, Tensor], features: Tensor, codes: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the text loss and the next-step code loss of one pass over scans and texts.

    Only where there are several time patches: with one, the code loss
    (:meth:`~fmrilm.lm.reader.FMRIReader.code_loss`) hides tokens that the text has to see.

    Parameters
    ----------
    model : ScanReader
    batch : mapping
        ``input_ids``, ``attention_mask``, ``labels`` (B, L) and ``roi_mask`` (B, R).
    features : Tensor, shape (B, N, D)
    codes : Tensor of long, shape (B, N)
    """
    with model.last_states() as states:
        text = model.text_loss(batch, features, token_dropout=False)
    is_scan = batch["input_ids"] == SCAN_ID
    of_scan = states[0][is_scan].view(len(codes), -1, states[0].shape[-1])[:, : codes.shape[1]]
    return text, codes_loss(model, of_scan, next_step_target(model, codes, batch["roi_mask"]))


def shifted_scan(model: ScanReader, codes: Tensor) -> Tensor:
    """Return embeddings (B, N, D): a start patch, then all time patches of codes but the last.

    Every token of it predicts the code of its region in the patch that it stands for.
    """
    R = model.tokenizer.config.tokens_per_step
    start = (model.start_embed + model.roi_embed).expand(len(codes), -1, -1)
    vectors = model.tokenizer.quantizer.indices_to_codes(codes[:, :-R])
    if not vectors.shape[1]:
        return start
    x = model.projector(vectors) + model.roi_embed.repeat(vectors.shape[1] // R, 1)
    return torch.cat([start, x], 1)


def text_to_codes_loss(
    model: ScanReader, input_ids: Tensor, attention_mask: Tensor, codes: Tensor, roi_mask: Tensor
) -> Tensor:
    """Return the cross-entropy of a scan's codes (B, N) after a description.

    Parameters
    ----------
    model : ScanReader
    input_ids, attention_mask : Tensor, shape (B, L)
        As :meth:`TextEncoder.scan_request_ids` makes them: the scan's placeholders stand last.
    codes : Tensor of long, shape (B, N)
    roi_mask : Tensor of bool, shape (B, R)
    """
    with model.last_states() as states:
        model.read(
            input_ids,
            attention_mask,
            shifted_scan(model, codes),
            roi_mask,
            logits_to_keep=1,
            use_cache=False,
        )
    target = codes.masked_fill(~model.tokenizer.token_mask(roi_mask), IGNORED)
    return codes_loss(model, states[0][:, -codes.shape[1] :], target)


@torch.no_grad()
def write_codes(
    model: ScanReader, descriptions: Sequence[str], choose: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the codes (B, N) of scans that descriptions ask for, one time patch at a time.

    The regions of a patch are chosen in parallel, independently of each other given the text and
    the patches before.
    """
    from fmrilm.lm.decoding import prefill

    config = model.tokenizer.config
    R, B = config.tokens_per_step, len(descriptions)
    ids = [[i for i in model.text.scan_request_ids(d) if i != SCAN_ID] for d in descriptions]
    prefix = prefill(model, None, None, ids)
    codes = torch.empty(B, 0, dtype=torch.long, device=model.device)
    for step in range(config.token_steps):
        room = torch.zeros(B, R, dtype=torch.long, device=model.device)
        embeds = shifted_scan(model, torch.cat([codes, room], 1))[:, -R:]
        position = (prefix.position[:, -1:] + 1).expand(-1, R)
        prefix.position = torch.cat([prefix.position, position], 1)
        prefix.valid = torch.cat([prefix.valid, torch.ones_like(position, dtype=torch.bool)], 1)
        with model.last_states() as states:
            model.lm(
                inputs_embeds=embeds,
                attention_mask=attention_masks(
                    model.lm, position, prefix.position, prefix.valid, embeds.dtype
                ),
                position_ids=position,
                cache=prefix.cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits, first = model.code_logits(states[0].flatten(0, 1))
        chosen = choose(logits[:, first:].float()).view(B, R)
        codes = torch.cat([codes, chosen], 1)
        assert codes.shape[1] == (step + 1) * R
    return codes
