"""What the server does with scans: prepare, ask, explain. Every answer is one of FMRIPipeline."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fmrilm.asking.pipeline import NOT_SURE, Answer, FMRIPipeline
from fmrilm.cohort.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.hashing import checksum
from fmrilm.lineage.trained_on import read_trained_on
from fmrilm.processing.recipes import ReadyScan
from fmrilm.web.origins import find_origin
from fmrilm.web.shelf import HeldScan, Shelf
from fmrilm.web.uploads import UNPACKED, Uploads, scan_in
from fmrilm.web.views import carpet, drift_view, view_of
from fmrilm.web.worker import Job

UPLOADED = "uploaded scan"
SEEN = {
    "train": "the model was trained on this scan: its answers do not show what it is worth",
    "val": "the model was selected on this scan: its answers do not quite show what it is worth",
}


@dataclass(frozen=True)
class ShownCohort:
    """A cohort that scans can be chosen from."""

    folder: Path

    @cached_property
    def cohort(self) -> Cohort:
        """The cohort, opened when first looked at."""
        return Cohort(self.folder)

    @cached_property
    def scans(self) -> list[dict[str, Any]]:
        """Row, subject, session and split of every scan."""
        store = self.cohort.store
        splits = self.cohort.table["split"].fillna("").astype(str)
        rows = enumerate(zip(store.subjects, store.sessions, splits, strict=True))
        return [
            {"row": row, "subject": subject, "session": session, "split": split}
            for row, (subject, session, split) in rows
        ]


def trained_on(pipelines: Sequence[FMRIPipeline]) -> list[str]:
    """Folders of the cohorts that runs were trained on, those that are still there."""
    named = (folder for p in pipelines for folder in p.run.config.data.dataset_dir)
    return [folder for folder in dict.fromkeys(named) if Path(folder).is_dir()]


class Studio:
    """Runs, cohorts, and the scans that are held for those who ask.

    Parameters
    ----------
    pipelines : sequence of FMRIPipeline
        One for every run.
    cohorts : sequence of path
        Folders that scans can be chosen from.
    uploads : Uploads
    shelf : Shelf, optional
    """

    def __init__(
        self,
        pipelines: Sequence[FMRIPipeline],
        cohorts: Sequence[str | Path],
        uploads: Uploads,
        shelf: Shelf | None = None,
    ) -> None:
        self.pipelines = list(pipelines)
        self.cohorts = [ShownCohort(Path(folder)) for folder in cohorts]
        self.uploads = uploads
        self.shelf = shelf or Shelf()
        self._seen: dict[int, dict[str, str]] = {}  # of each run: checksum -> split

    def about(self) -> dict[str, Any]:
        """Runs with their questions, cohorts, limits."""
        return {
            "runs": [_about_run(index, p) for index, p in enumerate(self.pipelines)],
            "cohorts": [
                {
                    "id": index,
                    "name": shown.cohort.name,
                    "scans": len(shown.scans),
                    "synthetic": shown.cohort.info.synthetic,
                }
                for index, shown in enumerate(self.cohorts)
            ],
            "max_upload_mb": self.uploads.most / 2**20,
        }

    def load_models(self, job: Job) -> dict[str, Any]:
        """Load every model, so that nobody waits for it later."""
        for index, pipeline in enumerate(self.pipelines):
            job.progress(index / len(self.pipelines), "loading models")
            _ = pipeline.model
        return {}

    # Scans ---------------------------------------------------------------------------------------

    def choose(self, job: Job, run: int, cohort: int, row: int) -> dict[str, Any]:
        """Take a scan of a cohort."""
        pipeline, shown = self.pipelines[run], self.cohorts[cohort]
        job.progress(0.1, "reading the scan")
        subject = shown.scans[row]["subject"]
        for ready in pipeline.scans(f"{shown.folder}:{subject}"):
            job.check()
            if ready.origin is not None and ready.origin[1] == row:
                return self._hold(job, run, ready)
        raise InputError(f"{shown.cohort.name} has no scan {row}")

    def receive(self, job: Job, run: int, place: Path) -> dict[str, Any]:
        """Take an uploaded scan; its files are deleted when this ends."""
        pipeline = self.pipelines[run]
        job.progress(0.05, "checking the file")
        try:
            path = scan_in(place, UNPACKED * self.uploads.most)
            job.progress(0.2, "preparing it like the training scans")
            ready = pipeline.processor.read(path, pipeline.cohort)
        except (InputError, FileNotFoundError) as error:
            raise InputError(_without_paths(str(error), place)) from None
        finally:
            self.uploads.drop(place)
        notes = [_without_paths(note, place) for note in ready.notes]
        return self._hold(job, run, dataclasses.replace(ready, name=UPLOADED, notes=notes))

    def _hold(self, job: Job, run: int, ready: ReadyScan) -> dict[str, Any]:
        pipeline = self.pipelines[run]
        atlas = pipeline.processor.atlas
        job.progress(0.7, "drawing")
        about = pipeline.about(ready)
        notes = [*about.notes, *self._seen_before(run, ready)]
        view = view_of(ready.series, atlas) | {
            "run": run,
            "scan": about.scan,
            "cohort": about.cohort,
            "notes": notes,
            "synthetic": about.synthetic,
            "drift": drift_view(about.drift),
            "description": about.description,
        }
        held = HeldScan(run, ready, view, carpet(ready.series, atlas))
        job.progress(0.95, "ready")
        held.view["id"] = held.id
        self.shelf.put(held)
        return {"scan": held.view}

    def _seen_before(self, run: int, ready: ReadyScan) -> list[str]:
        """What is to be said of a scan that the run was trained or selected on, by its series."""
        if run not in self._seen:
            table = read_trained_on(self.pipelines[run].run.folder)
            self._seen[run] = {}
            if table is not None and "checksum" in table:
                self._seen[run] = table.set_index("checksum")["split"].to_dict()
        series = ready.series
        if ready.origin is not None:
            cohort, row = ready.origin
            series = cohort.store.raw(row)
        return [SEEN[split] for split in [self._seen[run].get(checksum(series))] if split in SEEN]

    # Questions -----------------------------------------------------------------------------------

    def ask(self, job: Job, held: HeldScan, question: str | None) -> dict[str, Any]:
        """Answer a question, or all of the run's; each answer is told as soon as it is known."""
        pipeline = self.pipelines[held.run]
        asked = [task.name for task in pipeline.tasks()] if question is None else [question]

        def stream(piece: str) -> None:
            job.check()
            job.publish("text", piece=piece)

        for index, word in enumerate(asked):
            job.progress(index / len(asked), "asking the model")
            for answer in pipeline.answers(held.ready, word, stream):
                held.keep(answer)
                job.publish("answer", answer=answer_view(answer))
        return {}

    def explain(self, job: Job, held: HeldScan, task: str, answer: str | None) -> dict[str, Any]:
        """Say where an answer comes from."""
        origin = find_origin(job, self.pipelines[held.run], held.ready, task, answer)
        held.origins[task] = origin
        return {"origin": origin.content}


def answer_view(answer: Answer) -> dict[str, Any]:
    """An answer as plain values, and whether it is one."""
    return dataclasses.asdict(answer) | {"is_sure": answer.text != NOT_SURE}


def _about_run(index: int, pipeline: FMRIPipeline) -> dict[str, Any]:
    processor = pipeline.processor
    _, recipe = processor.recipe(pipeline.cohort)
    return {
        "id": index,
        "name": pipeline.run.folder.name,
        "synthetic": any(recipe.synthetic for recipe in processor.recipes.values()),
        "prepared_like": pipeline.cohort,
        "regions": len(processor.atlas),
        "time_points": processor.num_timestamp,
        "t_r": recipe.t_r,
        "tasks": [
            {
                "name": task.name,
                "question": task.questions[0],
                "answers": [] if task.values else task.candidates,
            }
            for task in pipeline.tasks()
        ],
    }


def _without_paths(text: str, place: Path) -> str:
    """A sentence about uploaded files without where they lay and what they were called here."""
    for path in sorted(place.glob("*"), key=lambda p: -len(p.name)):
        text = text.replace(str(path), "the file").replace(path.name, "the file")
    return text.replace(f"{place}{os.sep}", "")
