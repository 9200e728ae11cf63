"""`fmrilm embed`: pooled features or codes of scans, with their subjects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from fmrilm.errors import InputError
from fmrilm.evaluation.runs import open_cohorts, open_run
from fmrilm.evaluation.scoring import Scorer, check_shape
from fmrilm.evaluation.tokenizer.fidelity import batches
from fmrilm.files import write_array

KINDS = ("features", "codes")


class ScanEmbedder(TransformerMixin, BaseEstimator):
    """A trained tokenizer as a scikit-learn transformer.

    Parameters
    ----------
    model : str
        Folder of a tokenizer, ``runs/tok/model``.
    kind : str
        ``features``: the mean of the encoder's tokens, (n, D); ``codes``: their indices, (n, N).
    batch_size : int
    device : str
        ``auto``, ``cpu``, ``cuda``, ...
    """

    def __init__(
        self, model: str, kind: str = "features", batch_size: int = 16, device: str = "auto"
    ) -> None:
        self.model = model
        self.kind = kind
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: np.ndarray, y: Any = None) -> ScanEmbedder:
        """Read the tokenizer; nothing is learned from ``X`` (n, R, T)."""
        from fmrilm.tokenizer.tokenizer import FMRITokenizer

        if self.kind not in KINDS:
            raise InputError(f"unknown kind {self.kind!r}: use features or codes")
        self.tokenizer_ = FMRITokenizer.from_pretrained(self.model, device=self.device)
        return self

    def transform(self, X: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        """Return one row per scan of ``X`` (n, R, T); ``masks`` (n, R) or (n, R, T)."""
        import torch

        from fmrilm.tokenizer.pooling import masked_mean

        if masks is None:
            masks = np.ones(X.shape[:2], dtype=bool)
        rows = []
        with torch.inference_mode():
            for fmri, mask in batches(X, masks, self.batch_size, self.tokenizer_.device):
                if self.kind == "codes":
                    rows.append(self.tokenizer_.tokenize(fmri, mask).cpu().numpy())
                else:
                    features = self.tokenizer_.encode(fmri, mask)
                    rows.append(
                        masked_mean(features, self.tokenizer_.token_mask(mask)).cpu().numpy()
                    )
        return np.concatenate(rows)


def embed(
    run: Path,
    data: Path,
    *,
    output: Path,
    split: str = "test",
    kind: str = "features",
    device: str = "auto",
) -> Path:
    """Write one row per scan (npy, or parquet) and the scans' ids beside it.

    Parameters
    ----------
    run : Path
        Run folder of stage tokenizer.
    data : Path
        Cohort folder.
    output : Path
        File ending in .npy (ids go to the same name with .tsv) or .parquet (needs pyarrow).
    split : str
        train, val or test.
    kind : str
        features: the mean of the encoder's tokens; codes: the index of every token.
    device : str
        auto (a GPU if there is one), cpu, cuda, ...

    Returns
    -------
    Path
        The file.

    Examples
    --------
    fmrilm embed runs/tok data/UKB --output features.npy
    """
    import pandas as pd

    if output.suffix not in (".npy", ".parquet"):
        raise InputError(f"cannot write {output.name}: end it in .npy or .parquet")
    embedder = ScanEmbedder(str(Path(run) / "model"), kind, device=device).fit(np.empty(0))
    config = embedder.tokenizer_.config
    opened = open_run(run)
    cohort = open_cohorts(opened, [str(data)])[0]
    length = opened.config.data.length
    check_shape(cohort, config.num_rois, config.num_timestamp, length)
    scans = Scorer(None, cohort, config.num_timestamp, length=length)
    fmri, masks = scans.batch(cohort.indices(split).tolist())
    rows = embedder.transform(fmri.numpy(), masks.numpy())
    ids = cohort.table.iloc[cohort.indices(split)][["subject_id", "session_id"]]
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".npy":
        write_array(output, rows)
        ids.to_csv(output.with_suffix(".tsv"), sep="\t", index=False)
        return output
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise InputError("parquet needs pyarrow: pip install pyarrow, or end in .npy") from None
    columns = pd.DataFrame(rows, columns=[f"{kind[:-1]}_{i}" for i in range(rows.shape[1])])
    pd.concat([ids.reset_index(drop=True), columns], axis=1).to_parquet(output, index=False)
    return output
