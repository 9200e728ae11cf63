"""Does a scan find its own description among those of other people?"""

from __future__ import annotations

from typing import Any

import numpy as np

from fmrilm.cohort.cohort import Cohort
from fmrilm.evaluation.runs import Run
from fmrilm.evaluation.tokenizer.fidelity import Scans, batches

AMONG = 32  # people whose descriptions stand side by side
DRAWS = 500  # groups of so many people


def retrieval(
    run: Run, tokenizer: Any, cohort: Cohort, split: str, scans: Scans, batch_size: int
) -> dict[str, Any] | None:
    """Return how well scans find their own descriptions; None for a run without alignment.

    Only ``reason`` where the cohort has no descriptions. The first described scan of every person
    counts. People are put into groups of :data:`AMONG` at random, many times over;
    the control gives every person the description of another.
    """
    from fmrilm.lm.embedding.descriptions import HEADS

    if not (run.folder / "model" / HEADS).is_file():
        return None
    try:
        summaries = cohort.descriptions(list(run.config.data.desc_type))
    except FileNotFoundError as error:
        return {"reason": str(error)}
    texts = np.array(summaries.iloc[cohort.indices(split)].tolist())
    subjects = cohort.table["subject_id"].iloc[cohort.indices(split)].to_numpy()
    described = np.flatnonzero(texts != "")
    chosen = described[np.unique(subjects[described], return_index=True)[1]]
    if len(chosen) < 2:
        return None
    similarity = compare(run, tokenizer, scans.of(chosen), texts[chosen].tolist(), batch_size)
    rng = np.random.default_rng(0)
    shuffled = np.roll(similarity, 1, axis=1)
    return {
        "people": len(chosen),
        "among": min(AMONG, len(chosen)),
        **ranking(similarity, rng),
        "shuffled": ranking(shuffled, rng),
    }


def compare(
    run: Run, tokenizer: Any, scans: Scans, texts: list[str], batch_size: int
) -> np.ndarray:
    """Return how well every scan fits every text, shape (n scans, n texts)."""
    import torch

    from fmrilm.lm.embedding.descriptions import AlignmentHeads, embed_descriptions
    from fmrilm.lm.embedding.ngrams import NgramEmbedder
    from fmrilm.lm.language_models import reload_language_model
    from fmrilm.lm.text import TextEncoder

    folder, config = run.folder / "model", run.config
    heads = AlignmentHeads.load(folder, tokenizer, config.tokenizer)
    if config.tokenizer.text_tower == "ngrams":
        embedded = NgramEmbedder.load(folder).embed(texts)
    else:
        lm, text_tokenizer, _ = reload_language_model(config.model.lm, folder / "lm")
        encoder = TextEncoder(text_tokenizer, tokenizer.config.num_tokens)
        embedded = embed_descriptions(lm, encoder, texts, pooling=config.tokenizer.text_pooling)
    pooled = []
    with torch.inference_mode():
        for fmri, mask in batches(scans.series, scans.model_masks, batch_size, tokenizer.device):
            features = tokenizer.encode(fmri, mask)
            pooled.append(heads.pool(features.cpu(), tokenizer.token_mask(mask).cpu()))
        return heads.alignment.similarity(torch.cat(pooled), embedded).numpy()


def ranking(similarity: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Return the share of scans whose own text is the best or among the best five, and its rank.

    Parameters
    ----------
    similarity : ndarray, shape (n, n)
        Of scans with texts; a scan's own text is on the diagonal.
    rng : numpy.random.Generator
        Draws the groups.

    Returns
    -------
    dict
        ``top1``, ``top5`` and ``median_rank`` (1 is best) among :data:`AMONG` texts, or all of
        them if there are fewer. A text that fits as well as the own one stands before it.
    """
    n = len(similarity)
    ranks = []
    for _ in range(DRAWS if n > AMONG else 1):
        group = rng.permutation(n)[:AMONG]
        part = similarity[np.ix_(group, group)]
        ranks.append((part >= np.diag(part)[:, None]).sum(1))
    rank = np.concatenate(ranks)
    return {
        "top1": float((rank == 1).mean()),
        "top5": float((rank <= 5).mean()),
        "median_rank": float(np.median(rank)),
    }


def to_text(found: dict[str, Any]) -> str:
    """Return the lines about retrieval, chance and control beside it."""
    if "reason" in found:
        return f"own description: not scored, {found['reason']}"
    among, control = found["among"], found["shuffled"]
    return (
        f"own description among {among} of {found['people']} people: top-1 {found['top1']:.3f} "
        f"(chance {1 / among:.3f}, shuffled {control['top1']:.3f}), top-5 {found['top5']:.3f} "
        f"({min(1.0, 5 / among):.3f}, {control['top5']:.3f}), median rank "
        f"{found['median_rank']:g} ({(among + 1) / 2:g}, {control['median_rank']:g})"
    )
