"""One vector per scan from a trained model: what linear probes read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fmrilm.evaluation.scoring import Scorer

POOLINGS = ("answer", "mean", "tokens")


def embed_batch(
    model: Any, fmri: Any, roi_mask: Any, prompt: str, pooling: str = "answer"
) -> np.ndarray:
    """Return one vector per scan, shape (B, D).

    Parameters
    ----------
    model : FMRILM
    fmri : Tensor, shape (B, R, T)
    roi_mask : Tensor of bool, shape (B, R)
    prompt : str
        With the mark of the scan.
    pooling : str
        ``answer``: the language model's last hidden state where the answer begins; ``mean``: the
        encoder's features averaged over the usable tokens, without the language model; ``tokens``:
        those features one after the other, zero where a token is not usable.
    """
    import torch

    fmri, roi_mask = fmri.to(model.device), roi_mask.to(model.device)
    with torch.inference_mode():
        if pooling in ("mean", "tokens"):
            features = model.features(fmri, roi_mask)
            valid = model.tokenizer.token_mask(roi_mask)[:, :, None].float()
            if pooling == "tokens":
                return (features * valid).flatten(1).cpu().numpy()
            pooled = (features * valid).sum(1) / valid.sum(1).clamp_min(1)
            return pooled.double().cpu().numpy()
        batch = model.text.batch([model.text.prompt_ids(prompt)] * len(fmri))
        output, _, _ = model.read(
            batch["input_ids"].to(model.device),
            batch["attention_mask"].to(model.device),
            model.project(fmri, roi_mask),
            roi_mask,
            logits_to_keep=1,
            use_cache=False,
            output_hidden_states=True,
        )
        return output.hidden_states[-1][:, -1].double().cpu().numpy()


def embed_rows(
    scorer: Scorer, rows: np.ndarray, prompt: str, pooling: str = "answer"
) -> np.ndarray:
    """Return one vector per scan of a cohort, shape (n, D)."""
    parts = []
    for start in range(0, len(rows), scorer.batch_size):
        fmri, mask = scorer.batch(rows[start : start + scorer.batch_size].tolist())
        parts.append(embed_batch(scorer.model, fmri, mask, prompt, pooling))
    return np.concatenate(parts)
