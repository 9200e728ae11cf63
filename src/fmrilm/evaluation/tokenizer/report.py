"""`fmrilm evaluate` of a stage-1 run: what its tokens keep of a scan, beside PCA of equal bits."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.reader import ScanReader
from fmrilm.evaluation.options import EvaluationOptions
from fmrilm.evaluation.questions import site_of
from fmrilm.evaluation.readings import note_reading
from fmrilm.evaluation.runs import Run
from fmrilm.evaluation.scoring import check_shape
from fmrilm.evaluation.tokenizer.codecs import PCACodec
from fmrilm.evaluation.tokenizer.fidelity import (
    Scans,
    batches,
    connectivity_agreement,
    explained,
    skewness_agreement,
    spectrum_kept,
    split_half_ceiling,
)
from fmrilm.evaluation.tokenizer.retrieval import retrieval
from fmrilm.evaluation.tokenizer.retrieval import to_text as retrieval_text

TASK = "reconstruction"  # what a reading of the test people is noted as


def evaluate_tokenizer(
    run: Run, cohorts: list[Cohort], options: EvaluationOptions, folder: Path
) -> list[dict[str, Any]]:
    """Return, print and write (``tokenizer.json``) the health and fidelity of a tokenizer.

    PCA is fitted on the training scans of the same cohort, on the tokenizer's own patches, and
    spends as many bits per scan as the tokenizer's tokens.
    """
    from fmrilm.tokenizer.tokenizer import FMRITokenizer

    split, batch_size = options.scored_split, options.batch_size
    tokenizer = FMRITokenizer.from_pretrained(run.folder / "model", device=options.device)
    config, length = tokenizer.config, run.config.data.length
    results = []
    for cohort in cohorts:
        check_shape(cohort, config.num_rois, config.num_timestamp, length)
        scans = read_scans(cohort, split, config.num_timestamp, length)
        indices, coded = code(tokenizer, scans, batch_size)
        bits = config.num_tokens * math.log2(tokenizer.codebook_size)
        patch, patches_per_scan = config.patch_size, config.num_rois * config.num_steps
        train = read_scans(cohort, "train", config.num_timestamp, length)
        codec = PCACodec(bits / patches_per_scan).fit(train.patches(patch))
        pca = codec.reconstruct(scans.series.reshape(-1, patch)).reshape(scans.series.shape)
        codes = {"tokenizer": coded, "pca": pca * scans.masks[:, :, None]}
        results.append(
            {
                "cohort": cohort.name,
                "synthetic": cohort.info.synthetic,
                "split": split,
                "scans": len(scans.series),
                "bits_per_scan": bits,
                "pca_bits_per_scan": int(codec.bits_.sum()) * patches_per_scan,
                "split_half_fc": split_half_ceiling(scans),
                **codebook_use(np.concatenate(indices), tokenizer.codebook_size),
                "site_drift": site_drift(
                    indices, site_of(cohort.table.iloc[cohort.indices(split)])
                ),
                **{name: fidelity(cohort, scans, one) for name, one in codes.items()},
                "retrieval": retrieval(run, tokenizer, cohort, split, scans, batch_size),
            }
        )
    if split == "test":
        for cohort, result in zip(cohorts, results, strict=True):
            earlier = note_reading(cohort, [TASK], [run.folder])
            result["readings"] = earlier.of(TASK, run.folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"run": str(run.folder), "results": results}, indent=2)
    (folder / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
    for result in results:
        print(to_text(result))
    return results


def read_scans(cohort: Cohort, split: str, num_timestamp: int, length: str = "clip") -> Scans:
    """Return the scaled scans of a split, clipped or padded; masked regions are zero.

    Parameters
    ----------
    cohort : Cohort
    split : str
    num_timestamp : int
        Time points the tokenizer reads.
    length : str
        ``data.length`` of the run; ``pad``: shorter scans are padded with masked zeros.

    Raises
    ------
    InputError
        If a scan is shorter than ``num_timestamp`` and not padded.
    """
    reader = ScanReader(cohort, num_timestamp, length)
    series: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    measured: list[np.ndarray] = []
    for index in cohort.indices(split):
        values, mask = reader.clip(index)
        kept = reader.kept(index)
        count = values.shape[1]
        seen = np.ones(count, bool) if kept is None else kept[:count]
        masks.append(mask)
        measured.append(np.pad(seen, (0, num_timestamp - count)))
        series.append(reader.pad(values, mask, kept)[0].numpy())
    is_whole = np.all(measured)
    return Scans(np.stack(series), np.stack(masks), None if is_whole else np.stack(measured))


def code(tokenizer: Any, scans: Scans, batch_size: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the indices of every scan's usable tokens, and the decoded scans (n, R, T)."""
    import torch

    indices, coded = [], []
    with torch.inference_mode():
        for fmri, mask in batches(scans.series, scans.model_masks, batch_size, tokenizer.device):
            tokens = tokenizer.tokenize(fmri, mask)
            usable = tokenizer.token_mask(mask)
            indices += [one[kept].cpu().numpy() for one, kept in zip(tokens, usable, strict=True)]
            coded.append(tokenizer.decode_indices(tokens, mask).cpu().numpy())
    return indices, np.concatenate(coded)


def codebook_use(indices: np.ndarray, codebook_size: int) -> dict[str, float]:
    """Return the share of codes that occur, their perplexity, and how many never do."""
    _, counts = np.unique(indices, return_counts=True)
    share = counts / counts.sum()
    return {
        "usage": len(counts) / codebook_size,
        "perplexity": float(np.exp(-(share * np.log(share)).sum())),
        "dead_codes": codebook_size - len(counts),
    }


def site_drift(
    indices: list[np.ndarray], sites: np.ndarray, draws: int = 50
) -> dict[str, float] | None:
    """Return how much the use of codes differs between sites; None where there is one site.

    The Jensen-Shannon divergence of the sites' shares of codes, in bits: 0 if all use them alike.
    ``by_chance`` is the mean over ``draws`` reshuffles of scans among the sites, which is not 0
    since every site has few scans; ``p`` is the share of reshuffles with at least the divergence.
    """
    names, place = np.unique(sites, return_inverse=True)
    if len(names) < 2:
        return None
    codes, flat = np.unique(np.concatenate(indices), return_inverse=True)
    parts = np.split(flat, np.cumsum([len(one) for one in indices])[:-1])
    counts = np.stack([np.bincount(one, minlength=len(codes)) for one in parts])  # (scans, codes)

    def divergence(place: np.ndarray) -> float:
        of_site = np.stack([counts[place == i].sum(0) for i in range(len(names))])
        weight = of_site.sum(1) / of_site.sum()
        share = of_site / of_site.sum(1, keepdims=True)
        return _entropy(weight @ share) - float(weight @ [_entropy(one) for one in share])

    found, rng = divergence(place), np.random.default_rng(0)
    chance = np.array([divergence(rng.permutation(place)) for _ in range(draws)])
    p = (1 + int((chance >= found).sum())) / (1 + draws)
    return {"divergence": found, "by_chance": float(chance.mean()), "p": p}


def _entropy(share: np.ndarray) -> float:
    """Return the entropy in bits."""
    return float(-(share * np.log2(np.where(share > 0, share, 1))).sum())


def fidelity(cohort: Cohort, scans: Scans, coded: np.ndarray) -> dict[str, Any]:
    """Return what is kept of the scans: variance, FC, spectrum, skewness, variance by network."""
    found: dict[str, Any] = {
        "r2": explained(scans, coded),
        "fc": connectivity_agreement(scans, coded),
        "spectrum": spectrum_kept(scans, coded),
        "skewness": skewness_agreement(scans, coded),
    }
    networks = np.array(cohort.atlas.networks)
    if cohort.atlas.has_networks:
        found["r2_by_network"] = {
            name: explained(scans, coded, networks == name) for name in cohort.atlas.network_names
        }
    return found


def to_text(result: dict[str, Any]) -> str:
    """Return the table of one cohort."""
    note = " (SYNTHETIC)" if result["synthetic"] else ""
    lines = [
        f"{result['cohort']}{note}: {result['scans']} {result['split']} scans, "
        f"{result['bits_per_scan']:.0f} bits per scan",
        f"codes used {result['usage']:.1%}, perplexity {result['perplexity']:.1f}, "
        f"never used {result['dead_codes']}",
        *_drift_text(result["site_drift"]),
        f"{'':22}{'R2':>7}{'FC r':>7}{'skew r':>8}  power kept, slow to fast",
    ]
    for name, title in (("tokenizer", "tokenizer"), ("pca", "PCA, equal bits")):
        one = result[name]
        bands = " ".join(f"{value:.2f}" for value in one["spectrum"])
        lines.append(f"{title:22}{one['r2']:7.3f}{one['fc']:7.3f}{one['skewness']:8.3f}  {bands}")
    lines.append(f"{'first vs second half':22}{'':7}{result['split_half_fc']:7.3f}")
    networks = result["tokenizer"].get("r2_by_network", {})
    if networks:
        parts = (f"{name} {value:.2f}" for name, value in networks.items())
        lines.append("R2 by network: " + ", ".join(parts))
    if result["retrieval"]:
        lines.append(retrieval_text(result["retrieval"]))
    return "\n".join(lines)


def _drift_text(drift: dict[str, float] | None) -> list[str]:
    if drift is None:
        return []
    return [
        f"codes differ between sites by {drift['divergence']:.4f} bits, "
        f"{drift['by_chance']:.4f} with scans reshuffled (p = {drift['p']:.2f})"
    ]
