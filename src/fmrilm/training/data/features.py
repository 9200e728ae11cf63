"""Features of a frozen tokenizer, computed once for all epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from fmrilm.lm.fmrilm import FMRILM
from fmrilm.training.data.collate import collate_scans
from fmrilm.training.data.dataset import ScanDataset


class ScanFeatures:
    """What the language model is given of each scan, and the scan's codes.

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
            found = [dataset[at] for dataset, at in items.values()]
            self._features, self._codes = self._compute(found)

    def __deepcopy__(self, memo: dict) -> ScanFeatures:
        return self  # a copy of an objective shares what was computed

    @torch.no_grad()
    def _compute(self, items: list, batch_size: int = 16) -> tuple[Tensor, Tensor]:
        self._model.eval()
        features, codes = [], []
        for start in range(0, len(items), batch_size):
            batch = self._collate(items[start : start + batch_size])
            of_batch = self._model.encode(batch["fmri"], batch["roi_mask"])
            features.append(of_batch[0].cpu())
            codes.append(of_batch[1].cpu())
        return torch.cat(features), torch.cat(codes)

    def _collate(self, items: list) -> dict[str, Tensor]:
        return {name: x.to(self._model.device) for name, x in collate_scans(items).items()}

    def fit_summary(self, dataset: ScanDataset, at_most: int = 2000, batch_size: int = 16) -> None:
        """Let the model's summary tokens learn their components from a dataset's scans."""
        summary = self._model.summary
        if summary is None:
            return
        first = {dataset.scan_id(place): place for place in range(len(dataset))}
        step = -(-len(first) // at_most)
        places = list(first.values())[::step]

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for start in range(0, len(places), batch_size):
                batch = self._collate([dataset[i] for i in places[start : start + batch_size]])
                yield batch["fmri"], batch["roi_mask"]

        summary.fit(batches)

    def of(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return features (B, N, D) and code indices (B, N) of the scans of a batch."""
        if not self._row:
            return self._model.encode(batch["fmri"], batch["roi_mask"])
        rows = [self._row[scan] for scan in batch["scan"].tolist()]
        device = batch["fmri"].device
        return self._features[rows].to(device), self._codes[rows].to(device)
