"""A model with its processor, its tasks and what its answers are worth: one object to ask.

The answers are those of ``fmrilm evaluate`` for the same scan: the same prompt, the same reading of
the scan, the same scoring of whole answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fmrilm.asking.worth import NEVER, Worth, read_worth
from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.settings import described
from fmrilm.cohort.told import Teller
from fmrilm.errors import InputError
from fmrilm.evaluation.runs import Run, open_run
from fmrilm.processing.drift import Drift
from fmrilm.processing.norms import CheckedClaim
from fmrilm.processing.processor import FMRIProcessor
from fmrilm.processing.recipes import ReadyScan
from fmrilm.registry import suggest
from fmrilm.stats.kinds import CHOICE, kind_of
from fmrilm.tasks import TASKS, Task, build_prompt

NOT_SURE = "not sure"
LONGEST = 96  # tokens of a free answer


@dataclass(frozen=True)
class Answer:
    """One answer about one scan.

    Attributes
    ----------
    question : str
    task : str or None
        None: a free question, which no evaluation covers.
    text : str
        The answer in words; ``not sure`` where it is less probable than the run's evaluation
        allows for.
    probabilities : dict of str to float
        Probability of each answer, calibrated where the run was evaluated; empty for numbers and
        free text.
    value, low, high : float or None
        A number, with its 90% prediction interval where the run was evaluated.
    worth : str
        The run's held-out result for this question, in one line.
    claims : list of CheckedClaim
        What a free answer claims of the scan's connectivity, and whether its own measures support
        it; empty for tasks.
    """

    question: str
    task: str | None
    text: str
    probabilities: dict[str, float]
    value: float | None = None
    low: float | None = None
    high: float | None = None
    worth: str = NEVER
    claims: list[CheckedClaim] = field(default_factory=list)


@dataclass(frozen=True)
class Reply:
    """All answers about one scan.

    Attributes
    ----------
    scan : str
    cohort : str
        Training cohort whose preparation and sentence were used.
    notes : list of str
        How the scan was prepared.
    drift : Drift or None
        How unlike the training scans it is.
    answers : list of Answer
    synthetic : bool
        Whether the model was trained on synthetic scans.
    description : str or None
        What the scan's own measures say of it, not the model; None where the model has no norms.
    """

    scan: str
    cohort: str
    notes: list[str]
    drift: Drift | None
    answers: list[Answer]
    synthetic: bool
    description: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        drift = None
        if self.drift is not None:
            drift = {
                "level": self.drift.level,
                "is_unlike": self.drift.is_unlike,
                "text": self.drift.text,
                "ratios": self.drift.ratios,
            }
        return asdict(self) | {"drift": drift, "answers": [asdict(a) for a in self.answers]}


class FMRIPipeline:
    """Ask a trained run about scans.

    Parameters
    ----------
    run : path
        A run folder of stage align or instruct.
    cohort : str, optional
        Training cohort whose preparation is followed; None: the first.
    device, dtype : str
        As for :meth:`fmrilm.FMRILM.from_pretrained`.

    Examples
    --------
    >>> pipeline = FMRIPipeline("runs/instruct")
    >>> for answer in pipeline("sub-01_desc-preproc_bold.nii.gz").answers:
    ...     print(answer.question, answer.text, answer.probabilities, answer.worth)
    """

    def __init__(
        self,
        run: str | Path | Run,
        cohort: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        self._where = device, dtype
        self.run = run if isinstance(run, Run) else open_run(run)
        self.processor = FMRIProcessor.from_pretrained(self.run.folder)
        self.cohort, self.recipe = self.processor.recipe(cohort)
        self._cohorts: dict[str, Cohort] = {}
        self._worths: dict[tuple[str, str], Worth] = {}

    @cached_property
    def model(self) -> Any:
        """The model, loaded when first used."""
        return self.run.load_model(*self._where)

    # Scans ---------------------------------------------------------------------------------------

    def scans(self, given: str, settings: Sequence[str] = ()) -> Iterator[ReadyScan]:
        """The scans that a word of the command line stands for.

        Parameters
        ----------
        given : str
            A scan file, or ``COHORT_FOLDER:SUBJECT`` for all sessions of a person.
        settings : sequence of str
            As for :meth:`FMRIProcessor.read`.
        """
        folder, mark, subject = given.rpartition(":")
        if Path(given).is_file() or not mark or not Path(folder).is_dir():
            yield self.processor.read(given, self.cohort, settings=settings)
            return
        cohort = self._open(folder)
        rows = [i for i, name in enumerate(cohort.store.subjects) if name == subject]
        if not rows:
            hint = suggest(subject, cohort.store.subjects)
            raise InputError(f"{folder} has no subject {subject!r}{hint}")
        for row in rows:
            yield self.processor.sample(cohort, row)

    def _open(self, folder: str) -> Cohort:
        if folder not in self._cohorts:
            cohort = Cohort(folder, self.run.config.data.norm)
            cohort.info = described(cohort.info, self.run.config)
            self._cohorts[folder] = cohort
        return self._cohorts[folder]

    # Questions -----------------------------------------------------------------------------------

    def tasks(self) -> list[Task]:
        """What the run was trained to answer."""
        names = self.run.config.instruct.tasks or list(
            dict.fromkeys(t for recipe in self.processor.recipes.values() for t in recipe.targets)
        )
        return [TASKS[name] for name in names if TASKS[name].candidates]

    def __call__(
        self,
        scan: Any,
        question: str | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Reply:
        """Answer a question about a scan, or all of the run's questions.

        Parameters
        ----------
        scan : path, ndarray (R, T), ReadyScan, or (Cohort, row)
        question : str, optional
            A task of the run, or any question in words.
        on_text : callable, optional
            Given every new piece of a free answer as it is written.

        Raises
        ------
        InputError
            If the scan does not fit the model.
        """
        ready = self._ready(scan)
        return replace(self.about(ready), answers=self.answers(ready, question, on_text))

    def answers(
        self,
        ready: ReadyScan,
        question: str | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> list[Answer]:
        """The answers of :meth:`__call__` alone, about a scan that is ready."""
        device = self.model.device
        inputs = {name: value.to(device) for name, value in self.processor(ready).items()}
        known = {task.name: task for task in self.tasks()}
        if question is None:
            return [self._task(ready, inputs, task) for task in known.values()]
        asked = {q: t for t in known.values() for q in t.questions} | known
        task = asked.get(question.strip())
        if task is None:
            return [self._free(ready, inputs, question, on_text)]
        return [self._task(ready, inputs, task)]

    def about(self, scan: ReadyScan) -> Reply:
        """What is to be said of a scan before anything is asked: notes, drift, description."""
        recipe = self.processor.recipes.get(scan.cohort, self.recipe)
        drift = self.processor.unlike(scan)
        own = self.processor.describe(scan)
        text = None if own is None else own.text
        return Reply(scan.name, scan.cohort, scan.notes, drift, [], recipe.synthetic, text)

    def _ready(self, scan: Any) -> ReadyScan:
        if isinstance(scan, ReadyScan):
            return scan
        if isinstance(scan, tuple) and len(scan) == 2 and isinstance(scan[0], Cohort):
            return self.processor.sample(*scan)
        if isinstance(scan, str):
            return next(self.scans(scan))
        if isinstance(scan, Path):
            return self.processor.read(scan, self.cohort)
        return self.processor.series(np.asarray(scan), self.cohort)

    def prompt(self, ready: ReadyScan, task: Task) -> str:
        """What the model reads when a task is asked about a scan."""
        config = self.run.config.instruct
        facts = {}
        if ready.origin is None:
            recipe = self.processor.recipes.get(ready.cohort)
            sentence = recipe.description if recipe else ""
        else:
            cohort, row = ready.origin
            sentence = cohort.info.description
            if config.add_desc:
                facts = Teller(cohort, config.add_desc, [task]).facts(row)
        return build_prompt(task, 0, sentence if config.add_src_info else "", facts)

    def _worth(self, task: Task, cohort: str) -> Worth:
        key = task.name, cohort
        if key not in self._worths:
            self._worths[key] = read_worth(self.run.folder, task, cohort)
        return self._worths[key]

    def _task(self, ready: ReadyScan, inputs: dict[str, Any], task: Task) -> Answer:
        import torch

        prompt, kind = self.prompt(ready, task), kind_of(task)
        worth = self._worth(task, ready.cohort)
        fmri, mask = inputs["fmri"], inputs["roi_mask"]
        question = task.questions[0]
        with torch.inference_mode():
            if kind.how == CHOICE:
                (scores,) = self.model.ask(fmri, mask, [(prompt, task.candidates)])
                raw = torch.softmax(scores[0].double(), -1).cpu().numpy()
                return self._choice(question, task, raw, worth)
            values = [float(text) for text in task.candidates]
            value = float(self.model.expect(fmri, mask, [prompt], values)[0])
        low = high = None
        if worth.half_width is not None:
            low, high = value - worth.half_width, value + worth.half_width
        text = f"{value:g}" if low is None else f"{value:.1f} [{low:.1f}, {high:.1f}]"
        return Answer(question, task.name, text, {}, value, low, high, worth.text)

    @staticmethod
    def _choice(question: str, task: Task, raw: np.ndarray, worth: Worth) -> Answer:
        probabilities = worth.calibrate(raw)
        best = int(probabilities.argmax())
        text = task.candidates[best] if probabilities[best] >= worth.threshold else NOT_SURE
        pairs = zip(task.candidates, probabilities.tolist(), strict=True)
        return Answer(question, task.name, text, dict(pairs), worth=worth.text)

    def _free(
        self,
        ready: ReadyScan,
        inputs: dict[str, Any],
        question: str,
        on_text: Callable[[str], None] | None,
    ) -> Answer:
        from fmrilm.lm.text import with_scan

        def tell(pieces: list[str]) -> None:
            if on_text is not None:
                on_text(pieces[0])

        (text,) = self.model.generate(
            inputs["fmri"], inputs["roi_mask"], [with_scan(question)], LONGEST, on_text=tell
        )
        own = self.processor.describe(ready)
        claims = [] if own is None else own.check(text)
        return Answer(question, None, text, {}, claims=claims)
