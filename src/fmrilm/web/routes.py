"""The interface of the server: scans, questions, jobs, comparison, export."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, HTTPException, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from fmrilm.web.export import render
from fmrilm.web.schema import (
    EVENTS,
    PICTURE,
    REFUSALS,
    UPLOAD_BODY,
    Choice,
    Comparison,
    Export,
    Index,
    JobState,
    OriginOf,
    Page,
    Question,
)
from fmrilm.web.shelf import HeldScan
from fmrilm.web.studio import Studio, answer_view
from fmrilm.web.views import difference
from fmrilm.web.worker import FullError, Job, Worker

RETRY_AFTER = "2"  # seconds
MOST_LISTED = 200  # scans of a cohort in one answer
Id = Annotated[str, Path(min_length=1, max_length=64)]
Theme = Literal["light", "dark"]


def make_routes(studio: Studio, worker: Worker) -> APIRouter:
    """The routes below ``/api``.

    Parameters
    ----------
    studio : Studio
    worker : Worker
    """
    router = APIRouter(prefix="/api", responses=REFUSALS)
    _add_scans(router, studio, worker)
    _add_questions(router, studio, worker)
    _add_jobs(router, worker)
    return router


def _held(studio: Studio, name: str) -> HeldScan:
    held = studio.shelf.get(name)
    if held is None:
        raise HTTPException(404, "the scan is not held any more: give it again")
    return held


def _submit(
    worker: Worker,
    kind: str,
    work: Callable[[Job], dict[str, Any]],
    on_end: Callable[[], None] | None = None,
) -> JobState:
    try:
        return _state(worker.submit(Job(kind, work, on_end)))
    except FullError:
        if on_end is not None:
            on_end()
        raise HTTPException(
            503, "too many questions wait: try again soon", {"Retry-After": RETRY_AFTER}
        ) from None


def _state(job: Job) -> JobState:
    return JobState(id=job.id, kind=job.kind, state=job.state)  # type: ignore[arg-type]


def _add_scans(router: APIRouter, studio: Studio, worker: Worker) -> None:
    def check_run(run: int) -> None:
        if run >= len(studio.pipelines):
            raise HTTPException(404, f"there is no run {run}")

    @router.get("/about")
    def about() -> dict[str, Any]:
        """Runs with their questions, cohorts, limits."""
        return studio.about()

    @router.get("/cohorts/{cohort}/scans")
    def scans_of(
        cohort: Index,
        search: Annotated[str, Query(max_length=100)] = "",
        offset: Index = 0,
    ) -> Page:
        """Scans of a cohort whose subject or session holds some text."""
        if cohort >= len(studio.cohorts):
            raise HTTPException(404, f"there is no cohort {cohort}")
        word = search.strip().lower()
        rows = [
            row
            for row in studio.cohorts[cohort].scans
            if word in f"{row['subject']} {row['session']}".lower()
        ]
        return Page(total=len(rows), scans=rows[offset : offset + MOST_LISTED])

    @router.post("/scans", status_code=202, openapi_extra=UPLOAD_BODY)
    async def upload(request: Request, run: Index = 0) -> JobState:
        """Upload a scan (with its confounds and sidecar) and prepare it for a run."""
        check_run(run)
        kind = request.headers.get("content-type", "")
        place = await studio.uploads.receive(kind, request.stream())
        return _submit(
            worker,
            "scan",
            lambda job: studio.receive(job, run, place),
            lambda: studio.uploads.drop(place),
        )

    @router.post("/scans/choose", status_code=202)
    def choose(choice: Choice) -> JobState:
        """Choose a scan of a cohort and prepare it for a run."""
        check_run(choice.run)
        if choice.cohort >= len(studio.cohorts):
            raise HTTPException(404, f"there is no cohort {choice.cohort}")
        if choice.row >= len(studio.cohorts[choice.cohort].scans):
            raise HTTPException(404, f"the cohort has no scan {choice.row}")
        return _submit(
            worker, "scan", lambda job: studio.choose(job, choice.run, choice.cohort, choice.row)
        )

    @router.get("/scans/{scan}")
    def view(scan: Id) -> dict[str, Any]:
        """What is shown of a scan, and what was answered about it."""
        held = _held(studio, scan)
        return held.view | {"answers": [answer_view(answer) for answer in held.answers]}

    @router.delete("/scans/{scan}", status_code=204)
    def forget(scan: Id) -> None:
        """Forget a scan."""
        studio.shelf.drop(scan)

    @router.get("/scans/{scan}/carpet.png", response_class=Response, responses=PICTURE)
    def carpet_plot(scan: Id) -> Response:
        """A row per region, sorted by network; a column per time point."""
        return Response(_held(studio, scan).carpet, media_type="image/png")


def _add_questions(router: APIRouter, studio: Studio, worker: Worker) -> None:
    @router.post("/scans/{scan}/questions", status_code=202)
    def ask(scan: Id, body: Annotated[Question, Body()]) -> JobState:
        """Ask a question about a scan, or all of the run's."""
        held = _held(studio, scan)
        return _submit(worker, "answer", lambda job: studio.ask(job, held, body.question))

    @router.post("/scans/{scan}/origins", status_code=202)
    def explain(scan: Id, body: Annotated[OriginOf, Body()]) -> JobState:
        """Attribute an answer to regions and networks."""
        held = _held(studio, scan)
        return _submit(
            worker, "origin", lambda job: studio.explain(job, held, body.task, body.answer)
        )

    @router.get(
        "/scans/{scan}/origins/{task}/brain.png", response_class=Response, responses=PICTURE
    )
    def brain(
        scan: Id, task: Annotated[str, Path(max_length=200)], theme: Theme = "light"
    ) -> Response:
        """The regions that carry an answer, on a glass brain."""
        origin = _held(studio, scan).origins.get(task)
        if origin is None or theme not in origin.pictures:
            raise HTTPException(404, "there is no picture of that answer")
        return Response(origin.pictures[theme], media_type="image/png")

    @router.get("/compare")
    def compare(
        first: Annotated[str, Query(max_length=64)], second: Annotated[str, Query(max_length=64)]
    ) -> Comparison:
        """Compare two scans: answers side by side, first minus second connectivity."""
        pair = [_held(studio, name) for name in (first, second)]
        known = [{a.question: answer_view(a) for a in held.answers} for held in pair]
        return Comparison(
            questions=[
                {"question": question, "first": known[0].get(question), "second": other}
                for question in dict.fromkeys([*known[0], *known[1]])
                for other in [known[1].get(question)]
            ],
            networks=pair[0].view["networks"],
            difference=difference(pair[0].view, pair[1].view),
        )

    @router.post(
        "/export",
        response_class=HTMLResponse,
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
    )
    def export(body: Annotated[Export, Body()]) -> HTMLResponse:
        """The conversations about scans with their figures, as one HTML file."""
        pairs = [(_held(studio, item.id), item.name) for item in body.scans]
        page = render(pairs, studio.pipelines)
        return HTMLResponse(page, headers={"content-disposition": "attachment"})


def _add_jobs(router: APIRouter, worker: Worker) -> None:
    def known(name: str) -> Job:
        job = worker.get(name)
        if job is None:
            raise HTTPException(404, "there is no such job any more")
        return job

    @router.get("/jobs/{job}")
    def state(job: Id) -> JobState:
        """How far a job is."""
        return _state(known(job))

    @router.get("/jobs/{job}/events", response_class=StreamingResponse, responses=EVENTS)
    async def events(job: Id) -> StreamingResponse:
        """What a job tells, from its beginning; when its listener goes, the job is cancelled."""
        return StreamingResponse(_lines(worker, known(job)), media_type="application/x-ndjson")

    @router.delete("/jobs/{job}", status_code=204)
    def cancel(job: Id) -> None:
        """Cancel a job."""
        worker.cancel(known(job))


async def _lines(worker: Worker, job: Job) -> AsyncIterator[str]:
    try:
        async for event in job.watch():
            yield json.dumps(event) + "\n"
    finally:
        if not job.has_ended:
            worker.cancel(job)
