"""The application: the page, its interface, and the guard in front of both."""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from fmrilm.web.guard import Door, Guard
from fmrilm.web.routes import make_routes
from fmrilm.web.studio import Studio
from fmrilm.web.worker import FAULT, Job, Worker

ASSETS = {
    item.name: item.read_bytes()
    for item in (files("fmrilm.web") / "assets").iterdir()
    if item.is_file()
}
KINDS = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".svg": "image/svg+xml",
}


def make_app(studio: Studio, worker: Worker, door: Door) -> Guard:
    """The ASGI application.

    Parameters
    ----------
    studio : Studio
    worker : Worker
        Started and stopped with the application.
    door : Door
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        worker.submit(Job("models", studio.load_models))
        try:
            yield
        finally:
            worker.stop()
            studio.shelf.clear()
            studio.uploads.close()

    app = FastAPI(
        title="fmrilm web",
        description="Ask trained runs about scans. Not for clinical use.",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
    )
    app.include_router(make_routes(studio, worker))
    _add_page(app, door)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": FAULT}, 500)

    return Guard(app, door)


def _add_page(app: FastAPI, door: Door) -> None:
    @app.get("/", include_in_schema=False)
    def page(request: Request) -> Response:
        if "token" not in request.query_params:
            return _asset("index.html")
        answer = RedirectResponse("/", 303)  # the token leaves the address bar
        secure = request.url.scheme == "https"
        answer.set_cookie(
            door.cookie, door.token, httponly=True, samesite="strict", path="/", secure=secure
        )
        return answer

    @app.get("/assets/{name}", include_in_schema=False)
    def asset(name: str) -> Response:
        return _asset(name)


def _asset(name: str) -> Response:
    if name not in ASSETS:
        raise HTTPException(404, "there is no such file")
    ending = name[name.rfind(".") :]
    kind = KINDS.get(ending) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(ASSETS[name], media_type=kind)
