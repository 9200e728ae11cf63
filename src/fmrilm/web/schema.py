"""What is sent to the server and what comes back, as its OpenAPI document says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Index = Annotated[int, Field(ge=0, lt=2**31)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Choice(_Strict):
    """A scan of a cohort, prepared for a run."""

    run: Index = 0
    cohort: Index
    row: Index


class Question(_Strict):
    """One question in words or by its task; null: all questions of the run."""

    question: Annotated[str, Field(min_length=1, max_length=500)] | None = None


class OriginOf(_Strict):
    """The answer to be attributed."""

    task: Name
    answer: Name | None = None


class Named(_Strict):
    """A scan, and what whoever asks calls it."""

    id: Name
    name: Annotated[str, Field(max_length=200)] = ""


class Export(_Strict):
    """The scans whose conversations are exported."""

    scans: Annotated[list[Named], Field(min_length=1, max_length=8)]


class JobState(BaseModel):
    """A job; `events` of it are at `/api/jobs/{id}/events`."""

    id: str
    kind: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"]


class Refusal(BaseModel):
    """Why a request was refused, in a sentence."""

    detail: str | list[dict[str, Any]]


class Page(BaseModel):
    """Part of the scans of a cohort."""

    total: int
    scans: list[dict[str, Any]]


class Comparison(BaseModel):
    """Two scans side by side: answers to the same questions, difference of connectivity."""

    questions: list[dict[str, Any]]
    networks: list[str]
    difference: list[list[float | None]]


UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["scan"],
                    "properties": {
                        "scan": {"type": "string", "format": "binary"},
                        "confounds": {"type": "string", "format": "binary"},
                        "sidecar": {"type": "string", "format": "binary"},
                    },
                }
            }
        },
    }
}
Responses = dict[int | str, dict[str, Any]]
EVENTS: Responses = {
    200: {
        "description": "One JSON object per line; the `type` of the last is done, failed or "
        "cancelled.",
        "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
    }
}
PICTURE: Responses = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
}
REFUSALS: Responses = {
    status: {"model": Refusal, "description": text}
    for status, text in {
        400: "It cannot be read.",
        401: "The token is missing or wrong.",
        403: "Another page asked.",
        404: "It is not there, or was forgotten.",
        408: "The upload stalled.",
        413: "It is too large.",
        415: "It is no scan.",
        421: "The server does not go by that name.",
        503: "Too much waits; try again after `Retry-After` seconds.",
    }.items()
}
