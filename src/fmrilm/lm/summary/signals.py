"""Summary tokens of a scan: its components, its signal families, and the evidence of readers.

All three read quantized numbers: every number of a scan, standardised over the training scans, is
rounded to one of five levels (finite scalar quantization, Mentzer et al., arXiv 2309.15505), so a
scan is a list of codes, and what is told of it rests on these.

Tensor letters: B scans, R regions, T time points, F families, C components of a family, D numbers
of a scan, S questions that have evidence, E numbers of evidence for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fmrilm.config.schema import EVIDENCE_SLOTS, LMConfig, TokenizerConfig
from fmrilm.lm.summary.components import ScanSummary, principal_axes
from fmrilm.lm.summary.families import (
    FAMILIES,
    families,
    parcel_series,
    parcel_weights,
    whiten,
)
from fmrilm.lm.summary.readers import Reader

PARCELS = 24
LEVELS = 2  # numbers are rounded to -2, ..., 2
COMPONENTS = 16  # C
WIDTH = 8  # E: outputs of a reader; questions with more answers have no evidence
WHOLE = "components"  # the scan's connectivity (or series) itself, as a family of its own


class SignalSummary(ScanSummary):
    """Summary tokens: components, one token per signal family, one per question with evidence.

    Windows too short for a correlation have components and evidence alone: their family tokens
    say nothing.

    Parameters
    ----------
    scan : TokenizerConfig
        Regions and time points of a scan.
    config : LMConfig
    width : int
        Of the language model.
    """

    def __init__(self, scan: TokenizerConfig, config: LMConfig, width: int) -> None:
        shape = scan.num_rois, scan.num_timestamp
        super().__init__(
            shape, bool(scan.roi_profile), config.summary_tokens, config.summary_components, width,
            config.summary_dropout,
        )  # fmt: skip
        self.count = config.num_summary_tokens
        parcels = min(PARCELS, scan.num_rois)
        self.parcels: Tensor
        self.expected: Tensor
        self.register_buffer("parcels", torch.zeros(parcels, scan.num_rois))
        self.register_buffer("expected", torch.eye(parcels))
        self.slices = self._columns(shape)
        total = max(s.stop for parts in self.slices.values() for s in parts)
        self.centre: Tensor
        self.scale: Tensor
        self.register_buffer("centre", torch.zeros(total))
        self.register_buffer("scale", torch.zeros(total))
        for name, parts in self.slices.items():
            if name != WHOLE:
                size = sum(s.stop - s.start for s in parts)
                self.register_buffer(f"axes_{name}", torch.zeros(size, COMPONENTS))
        self.family_proj = nn.Parameter(torch.randn(len(FAMILIES), COMPONENTS, width) * 0.02)
        self.family_bias = nn.Parameter(torch.randn(len(FAMILIES), width) * 0.02)
        self.reader: Tensor
        self.reader_bias: Tensor
        self.register_buffer("reader", torch.zeros(EVIDENCE_SLOTS, total, WIDTH))
        self.register_buffer("reader_bias", torch.zeros(EVIDENCE_SLOTS, WIDTH))
        self.reader_scale: Tensor  # mean and SD of the numbers that are predicted
        self.register_buffer("reader_scale", torch.tensor([[0.0, 1.0]]).repeat(EVIDENCE_SLOTS, 1))
        self.evidence_proj = nn.Parameter(torch.randn(EVIDENCE_SLOTS, WIDTH, width) * 0.1)
        self.evidence_bias = nn.Parameter(torch.randn(EVIDENCE_SLOTS, width) * 0.1)
        self._given: Tensor | None = None
        self._is_smooth = False

    @torch.no_grad()
    def _columns(self, shape: tuple[int, int]) -> dict[str, list[slice]]:
        """Columns of every family among the numbers of a scan, one slice per measure."""
        size = self.axes.shape[0]
        columns, at = {WHOLE: [slice(0, size)]}, size
        if not self.of_connectivity:
            return columns
        empty = torch.zeros(1, *shape)
        for name, measures in self._families(empty, torch.ones(1, shape[0]).bool()).items():
            columns[name] = []
            for measure in measures:
                columns[name].append(slice(at, at + measure.shape[1]))
                at += measure.shape[1]
        return columns

    def _families(self, fmri: Tensor, roi_mask: Tensor) -> dict[str, list[Tensor]]:
        x, level, times = parcel_series(fmri, roi_mask, self.parcels)
        return families(x, whiten(x, times, self.expected), level, times)

    # Numbers of a scan ---------------------------------------------------------------------------

    def _raw(self, fmri: Tensor, roi_mask: Tensor) -> Tensor:
        matrix, known = self._matrix(fmri, roi_mask)
        numbers = [self._reduce((matrix - self.mean) * known)]
        if self.of_connectivity:
            measures = self._families(fmri, roi_mask)
            numbers += [measure for parts in measures.values() for measure in parts]
        return torch.cat(numbers, 1)

    def numbers(self, fmri: Tensor, roi_mask: Tensor) -> Tensor:
        """The quantized numbers (B, D) of scans: -2, -1, 0, 1 or 2; gradients pass straight."""
        with torch.autocast(fmri.device.type, enabled=False):
            raw = self._raw(fmri.float(), roi_mask)
            scaled = ((raw - self.centre) * self.scale).clamp(-LEVELS, LEVELS)
            return scaled if self._is_smooth else scaled + (scaled.round() - scaled).detach()

    def scores(self, fmri: Tensor, roi_mask: Tensor) -> Tensor:
        """The components (B, C') of scans, families included, evidence left out."""
        return torch.cat([part.flatten(1) for part in self._parts(self.numbers(fmri, roi_mask))], 1)

    def _parts(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Components of the whole scan (B, C) and of its families (B, F, C)."""
        whole = numbers[:, self.slices[WHOLE][0]] @ self.axes
        if not self.of_connectivity:
            return whole, numbers.new_zeros(len(numbers), len(FAMILIES), COMPONENTS)
        return whole, torch.stack(
            [
                numbers[:, self.slices[name][0].start : self.slices[name][-1].stop]
                @ getattr(self, f"axes_{name}")
                for name in FAMILIES
            ],
            1,
        )

    def evidence(self, numbers: Tensor) -> Tensor:
        """What the readers say of scans, (B, S, E): log-odds of each answer, or a value."""
        return torch.einsum("bd,sde->bse", numbers, self.reader) + self.reader_bias

    def answer(self, slot: int, count: int, fmri: Tensor, roi_mask: Tensor) -> Tensor:
        """What the reader of a question alone says of scans.

        Returns
        -------
        answers : Tensor, shape (B, count) or (B, 1)
            Probabilities of ``count`` answers; with 1 the value.
        """
        said = self.evidence(self.numbers(fmri, roi_mask))[:, slot]
        if count == 1:
            mean, spread = self.reader_scale[slot]
            return said[:, :1] * spread + mean
        if count == 2:
            second = said[:, :1].sigmoid()
            return torch.cat([1 - second, second], 1)
        shares = said[:, :count].sigmoid()
        return shares / shares.sum(1, keepdim=True)

    def forward(self, fmri: Tensor, roi_mask: Tensor) -> Tensor:
        """The summary tokens (B, K, width)."""
        numbers = self.numbers(fmri, roi_mask)
        whole, of_family = self._parts(numbers)
        evidence = self.evidence(numbers) if self._given is None else self._given
        tokens = self.proj(self.dropout(whole)).unflatten(1, (-1, self.family_bias.shape[1]))
        drawn = self.dropout(of_family)
        of_families = torch.einsum("bfc,fcw->bfw", drawn, self.family_proj) + self.family_bias
        said = torch.einsum("bse,sew->bsw", evidence, self.evidence_proj) + self.evidence_bias
        return torch.cat([tokens, of_families, said.to(tokens.dtype)], 1)

    # Fitting -------------------------------------------------------------------------------------

    @torch.no_grad()
    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        """Learn parcels, levels and components from training scans, without labels.

        Parameters
        ----------
        batches : callable
            Gives batches of scans (n, R, T) and masks.
        """
        self._fit_modes(batches)
        self._fit_parcels(batches)
        raw = torch.cat([self._raw(*batch).cpu() for batch in batches()]).double()
        self.centre.copy_(raw.mean(0))
        spread = raw.std(0, correction=0)
        self.scale.copy_(torch.where(spread > 1e-6, 1 / spread.clamp_min(1e-6), 0.0))
        del raw
        numbers = torch.cat([self.numbers(*batch).cpu() for batch in batches()])
        for name, parts in self.slices.items():
            axes = self.axes if name == WHOLE else getattr(self, f"axes_{name}")
            of_family = numbers[:, parts[0].start : parts[-1].stop]
            axes.copy_(principal_axes(of_family, axes.shape[1]))

    def _fit_parcels(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        """Learn the parcels from the mean connectivity, and their mean correlation."""
        if not self.of_connectivity:
            return
        mean = torch.tanh(self.mean[:, :-1]).fill_diagonal_(1)
        weights = torch.from_numpy(parcel_weights(mean.cpu().numpy(), len(self.parcels)))
        self.parcels.zero_()
        self.parcels[: len(weights)] = weights.to(self.parcels)
        total, count = torch.zeros_like(self.expected), 0
        for fmri, roi_mask in batches():
            x, _, times = parcel_series(fmri, roi_mask, self.parcels)
            total += (x @ x.transpose(1, 2) / times.sum(1).clamp_min(1)[:, None, None]).sum(0)
            count += len(fmri)
        self.expected.copy_(total / max(count, 1))
        self.expected.fill_diagonal_(1)

    def set_readers(self, readers: Sequence[Reader]) -> None:
        """Take over fitted readers, one per slot; the other slots say nothing."""
        self.reader.zero_()
        self.reader_bias.zero_()
        for slot, reader in enumerate(readers):
            width = reader.weights.shape[1]
            self.reader[slot, :, :width] = torch.from_numpy(reader.weights).to(self.reader)
            self.reader_bias[slot, :width] = torch.from_numpy(reader.bias).to(self.reader)
            self.reader_scale[slot] = torch.tensor(reader.scale)

    @contextmanager
    def smooth(self) -> Iterator[None]:
        """Leave numbers between the levels in a block: steps have no gradient."""
        self._is_smooth = True
        try:
            yield
        finally:
            self._is_smooth = False

    @contextmanager
    def telling(self, evidence: Tensor) -> Iterator[None]:
        """Have the tokens of a block tell this evidence (B, S, E) in place of the readers'.

        For training scans: what readers say of people whom they were fitted on is far too sure.
        """
        self._given = evidence
        try:
            yield
        finally:
            self._given = None
