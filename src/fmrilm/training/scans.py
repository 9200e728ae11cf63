"""Features of a frozen tokenizer, computed once for all epochs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fmrilm.data.dataset import ScanDataset, stack_masks
from fmrilm.models.fmrilm import FMRILM


class ScanFeatures:
    """What the language model is given of each scan.

    Frozen features of all scans are computed before training, in fixed batches, so that they do
    not depend on where training was interrupted. They are computed batch by batch instead where
    the tokenizer is trained, the scans are clipped at random, or they would need more than
    ``max_bytes``.

    Parameters
    ----------
    model : FMRILM
    datasets : ScanDataset
        Of training and validation, over the same cohorts.
    """

    def __init__(self, model: FMRILM, *datasets: ScanDataset, max_bytes: int = 4 * 2**30) -> None:
        self._model = model
        self._row: dict[int, int] = {}
        items: dict[int, tuple[ScanDataset, int]] = {}
        for dataset in datasets:
            for position in range(len(dataset)):
                items.setdefault(dataset.scan_id(position), (dataset, position))
        config = model.tokenizer.config
        size = len(items) * config.num_tokens * config.size[0] * 4
        is_fixed = all(dataset.length != "random_clip" for dataset in datasets)
        if is_fixed and not model.config.lm.tune_tokenizer and size <= max_bytes:
            self._row = {scan: row for row, scan in enumerate(items)}
            self._features = self._compute([dataset[at] for dataset, at in items.values()])

    @torch.no_grad()
    def _compute(self, items: list, batch_size: int = 16) -> Tensor:
        self._model.eval()
        rows = []
        for start in range(0, len(items), batch_size):
            some = items[start : start + batch_size]
            fmri = torch.stack([item["fmri"] for item in some])
            mask = stack_masks([item["roi_mask"] for item in some])
            rows.append(self._model.features(fmri, mask))
        return torch.cat(rows)

    def of(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the features (B, N, D) of the scans of a batch."""
        if not self._row:
            return self._model.features(batch["fmri"], batch["roi_mask"])
        rows = [self._row[scan] for scan in batch["scan"].tolist()]
        return self._features[rows].to(batch["fmri"].device)
