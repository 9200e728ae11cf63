"""Ask a model about scans in batches; what was asked once is not computed again.

``n`` questions, ``C`` candidate answers, ``R`` regions, ``T`` time points.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fmrilm.cohort.cohort import check_length
from fmrilm.cohort.reader import ScanReader
from fmrilm.errors import InputError
from fmrilm.evaluation.controls import randomise_phases
from fmrilm.stats.kinds import CHOICE, NUMBER

if TYPE_CHECKING:
    from fmrilm.cohort.cohort import Cohort
    from fmrilm.evaluation.resume import ScoreLog
    from fmrilm.tasks import Task

MAX_ANSWER_TOKENS = 8
SCORING_RULE = "whole answer, end included"  # in the key of every kept score: they change with it
Advance = Callable[[int], None]


def check_shape(cohort: Cohort, num_rois: int, num_timestamp: int, length: str = "clip") -> None:
    """Raise :class:`InputError` if the scans of ``cohort`` do not fit a model.

    Parameters
    ----------
    cohort : Cohort
    num_rois, num_timestamp : int
        What the model was built for.
    length : str
        ``data.length`` of the model; ``pad``: shorter scans are padded.
    """
    if cohort.store.n_rois != num_rois:
        raise InputError(
            f"{cohort.name} has {cohort.store.n_rois} regions, the model reads {num_rois}: "
            "evaluate on scans of the atlas the model was trained on"
        )
    if len(cohort):
        check_length(cohort, 0, cohort.store.shape(0)[1], num_timestamp, length)


@dataclass(frozen=True)
class Asked:
    """One question about several scans: a prompt for each, the same answers for all.

    ``how`` it is answered: ``choice`` (a probability per candidate), ``number`` (the expected
    value, the candidates being numbers) or ``head`` (what the head of the model says: a probability
    per candidate, or with a head of one output the value). ``summary_rows`` are the scans whose
    summary the model is shown behind the tokens of ``rows``; None: their own.
    """

    rows: np.ndarray
    prompts: Sequence[str]
    candidates: tuple[str, ...]
    how: str = CHOICE
    summary_rows: np.ndarray | None = None


@dataclass(frozen=True)
class _Wanted:
    """A question about one scan that has no score yet."""

    key: Hashable
    row: int
    prompt: str
    candidates: tuple[str, ...]
    how: str
    summary_row: int | None = None


class Scorer:
    """Candidate probabilities and free text from one model on one cohort.

    Parameters
    ----------
    model : FMRILM
        Or anything with its ``score``, ``ask`` and ``generate``.
    cohort : Cohort
    num_timestamp : int
        Time points the model reads; longer scans are clipped to their start.
    batch_size : int
        Questions in memory at a time: scans times questions about each.
    log : ScoreLog, optional
        Where answers are kept in case the evaluation is interrupted.
    length : str
        ``data.length`` of the model; ``pad``: shorter scans are padded with masked zeros.
    normalise : str, optional
        As for :meth:`FMRILM.score`.
    """

    def __init__(
        self,
        model: Any,
        cohort: Cohort,
        num_timestamp: int,
        batch_size: int = 32,
        log: ScoreLog | None = None,
        length: str = "clip",
        normalise: str | None = None,
    ) -> None:
        self.model = model
        self.cohort = cohort
        self.num_timestamp = num_timestamp
        self.batch_size = batch_size
        self.log = log
        self.length = length
        self._rule = SCORING_RULE if normalise is None else f"normalised by {normalise}"
        self._options = {} if normalise is None else {"normalise": normalise}
        self.reader = ScanReader(cohort, num_timestamp, length)
        self._known: dict[Hashable, np.ndarray] = {}

    def batch(self, rows: Sequence[int], kind: str = "scan") -> tuple[Any, Any]:
        """Return scans (B, R, T) and masks, (B, R) or (B, R, T), altered as ``kind`` says."""
        fmri, mask = (
            self.reader.batch(rows, randomise_phases)
            if kind == "phase"
            else self.reader.batch(rows)
        )
        device = getattr(self.model, "device", "cpu")
        return (fmri.zero_() if kind == "zero" else fmri).to(device), mask.to(device)

    @property
    def summary(self) -> Any:
        """What sums up a scan for the model; None if it is shown nothing but tokens."""
        return getattr(self.model, "summary", None)

    def components(self, rows: np.ndarray) -> np.ndarray:
        """The components (n, C) that the model's summary tokens are made of."""
        return self._of_summary(rows, self.summary.scores)

    def evidence(self, rows: np.ndarray, task: Task) -> np.ndarray | None:
        """What the model's own reader of a task says, (n, answers) or (n, 1); None without one."""
        names = getattr(getattr(self.model, "config", None), "evidence", [])
        if task.name not in names:
            return None
        slot, count = names.index(task.name), 1 if task.values else len(task.candidates)
        return self._of_summary(rows, partial(self.summary.answer, slot, count))

    def _of_summary(self, rows: np.ndarray, read: Callable[[Any, Any], Any]) -> np.ndarray:
        import torch

        found = []
        with torch.inference_mode():
            for start in range(0, len(rows), self.batch_size):
                fmri, mask = self.batch(rows[start : start + self.batch_size].tolist())
                found.append(read(fmri, mask).cpu().numpy())
        return np.concatenate(found)

    def probabilities(
        self,
        rows: np.ndarray,
        prompts: Sequence[str],
        candidates: Sequence[str],
        kind: str = "scan",
        advance: Advance = lambda count: None,
    ) -> np.ndarray:
        """Return the probability of each candidate, shape (n, C): softmax of their scores.

        See :meth:`scores`.
        """
        return self.scores(Asked(rows, prompts, tuple(candidates)), kind, advance)

    def scores(
        self, asked: Asked, kind: str = "scan", advance: Advance = lambda count: None
    ) -> np.ndarray:
        """Return what the model answers, shape (n, C); of a number its value, shape (n, 1).

        Parameters
        ----------
        asked : Asked
        kind : str
            ``scan``, ``zero`` (every region zero), ``phase`` (phases randomised) or ``text_only``
            (no scan).
        advance : callable
            Told how many more of the n are done.
        """
        [keys] = self.read([asked], kind, advance)
        return np.stack([self._known[key] for key in keys])

    def read(
        self, asked: Sequence[Asked], kind: str = "scan", advance: Advance = lambda count: None
    ) -> list[list[tuple[Hashable, ...]]]:
        """Score several questions, reading every scan once for all of them.

        Later calls of :meth:`probabilities` find the scores. Returned are the keys under which
        they are known, one list per question.
        """
        keys = [self._keys(one, kind) for one in asked]
        wanted: dict[Hashable, list[_Wanted]] = {}  # by scan
        seen = 0
        for one, its_keys in zip(asked, keys, strict=True):
            others = [None] * len(one.rows) if one.summary_rows is None else one.summary_rows
            for row, other, prompt, key in zip(
                one.rows, others, one.prompts, its_keys, strict=True
            ):
                seen += 1
                if key in self._known:
                    continue
                kept = None if self.log is None else self.log.get(key)
                if kept is not None:
                    self._known[key] = np.array(kept)
                    continue
                of_scan = wanted.setdefault(key[:2], [])
                if all(other.key != key for other in of_scan):
                    summary = None if other is None else int(other)
                    of_scan.append(_Wanted(key, int(row), prompt, one.candidates, one.how, summary))
        advance(seen - sum(len(of_scan) for of_scan in wanted.values()))
        alike: dict[Hashable, list[list[_Wanted]]] = {}  # scans of which the same is asked
        for of_scan in wanted.values():
            for start in range(0, len(of_scan), self.batch_size):
                part = of_scan[start : start + self.batch_size]
                alike.setdefault(tuple((w.candidates, w.how) for w in part), []).append(part)
        for scans in alike.values():
            count = self.batch_size // len(scans[0])  # a prefix cache for every question
            for start in range(0, len(scans), count):
                self._read_batch(scans[start : start + count], kind, advance)
        return keys

    def _read_batch(self, scans: list[list[_Wanted]], kind: str, advance: Advance) -> None:
        columns = list(zip(*scans, strict=True))  # by question
        for column, found in zip(columns, self._ask(columns, kind), strict=True):
            for one, values in zip(column, found, strict=True):
                self._known[one.key] = values
            if self.log is not None:
                pairs = zip(column, found.tolist(), strict=True)
                self.log.add([(one.key, values) for one, values in pairs])
            advance(len(column))

    def _keys(self, asked: Asked, kind: str) -> list[tuple[Hashable, ...]]:
        prompts, answers = asked.prompts, (asked.candidates, asked.how, self._rule)
        if kind == "text_only":
            return [(kind, prompt, answers) for prompt in prompts]
        if kind == "zero":  # only which regions are usable is left of the scan
            left = [self._left(int(row)) for row in asked.rows]
            return [(kind, m, p, answers) for m, p in zip(left, prompts, strict=True)]
        rows: list[Any] = [int(row) for row in asked.rows]
        if asked.summary_rows is not None:
            rows = [(row, int(other)) for row, other in zip(rows, asked.summary_rows, strict=True)]
        return [(kind, row, p, answers) for row, p in zip(rows, prompts, strict=True)]

    def _left(self, row: int) -> tuple[bytes, int, bytes]:
        """Return what distinguishes a scan of zeros: its masks of regions and time, its length."""
        series, mask = self.reader.clip(row)
        kept = self.reader.kept(row)
        return mask.tobytes(), series.shape[1], b"" if kept is None else kept.tobytes()

    def _ask(self, columns: Sequence[Sequence[_Wanted]], kind: str) -> list[np.ndarray]:
        """Return the scores of the questions in ``columns``, each about the same scans."""
        import torch

        rows = [one.row for one in columns[0]]
        found: list[Any] = [None] * len(columns)
        others = [one.summary_row for one in columns[0] if one.summary_row is not None]
        with torch.inference_mode():
            scan = (None, None) if kind == "text_only" else self.batch(rows, kind)
            swap = {"summary_scan": self.batch(others)} if others else {}
            choices = [q for q, column in enumerate(columns) if column[0].how == CHOICE]
            chosen = self._choose(columns, choices, scan, swap)
            for q, scores in zip(choices, chosen, strict=True):
                found[q] = torch.softmax(scores.double(), dim=-1)
            for q, column in enumerate(columns):
                if found[q] is None:
                    found[q] = self._number_or_head(column, scan, swap)
        values = [one.cpu().numpy() for one in found]
        for one in values:
            if len(one) != len(rows) or not np.isfinite(one).all():
                raise RuntimeError(f"the model's scores of scans {rows} are not finite")
        return values

    def _choose(
        self,
        columns: Sequence[Sequence[_Wanted]],
        choices: list[int],
        scan: tuple[Any, Any],
        swap: dict[str, Any],
    ) -> list[Any]:
        asked = [([one.prompt for one in columns[q]], columns[q][0].candidates) for q in choices]
        if not asked:
            return []
        options = self._options | swap
        if scan[0] is None:
            return [
                self.model.score(None, None, prompts, list(c), **options) for prompts, c in asked
            ]
        return self.model.ask(*scan, asked, **options)

    def _number_or_head(
        self, column: Sequence[_Wanted], scan: tuple[Any, Any], swap: dict[str, Any]
    ) -> Any:
        """Return values (B, 1), or class probabilities (B, C) of a head with several outputs."""
        prompts, candidates = [one.prompt for one in column], column[0].candidates
        if column[0].how == NUMBER:
            values = [float(text) for text in candidates]
            return self.model.expect(*scan, prompts, values, **swap).double()[:, None]
        output = self.model.classify(*scan, prompts, **swap).double()
        if output.shape[1] == 1:
            return output
        return output[:, : len(candidates)].softmax(dim=-1)

    def texts(
        self,
        rows: np.ndarray,
        prompts: Sequence[str],
        max_new_tokens: int = MAX_ANSWER_TOKENS,
        advance: Advance = lambda count: None,
    ) -> list[str]:
        """Return the greedy free text for each scan and prompt."""
        import torch

        keys = [
            ("text", int(row), prompt, max_new_tokens)
            for row, prompt in zip(rows, prompts, strict=True)
        ]
        found = [None if self.log is None else self.log.get(key) for key in keys]
        todo = [position for position, text in enumerate(found) if text is None]
        advance(len(keys) - len(todo))
        for start in range(0, len(todo), self.batch_size):
            part = todo[start : start + self.batch_size]
            fmri, mask = self.batch(rows[part].tolist())
            with torch.inference_mode():
                texts = self.model.generate(
                    fmri, mask, [prompts[p] for p in part], max_new_tokens=max_new_tokens
                )
            for position, text in zip(part, texts, strict=True):
                found[position] = text.strip()
            if self.log is not None:
                self.log.add([(keys[position], found[position]) for position in part])
            advance(len(part))
        return [str(text) for text in found]
