"""`fmrilm web`: ask trained runs about scans in a browser, on this machine."""

from __future__ import annotations

import secrets
import socket
import sys
import threading
import webbrowser
from typing import TYPE_CHECKING

from fmrilm.errors import InputError

if TYPE_CHECKING:
    import uvicorn

    from fmrilm.web.guard import Door, Guard

HINT = "the page needs fastapi, uvicorn and python-multipart: pip install 'fmrilm[web]'"
MOST_PORT = 65535
GRACE = 3  # seconds that open answers have when the server stops


def web(
    runs: list[str],
    *,
    cohort: list[str] | None = None,
    host: str = "127.0.0.1",
    port: int = 8642,
    token: str | None = None,
    browser: bool = True,
    max_upload_mb: int = 1024,
) -> int:
    """Open a page on which trained runs are asked about scans.

    Scans are chosen from a cohort or dropped on the page; answers are those of `fmrilm ask`. The
    server listens on this machine alone, keeps no scan, and sends nothing anywhere. Not for
    clinical use.

    Parameters
    ----------
    runs : list of str
        Run folders of stage align or instruct.
    cohort : list of str, optional
        Cohort folders that scans can be chosen from; None: those that the runs were trained on.
    host : str
        Address to listen on; any but a loopback address needs the token.
    port : int
        Port to listen on; 0: any free one.
    token : str, optional
        Needed in every request; None: made up where ``host`` is not a loopback address.
    browser : bool
        Open the page.
    max_upload_mb : int
        Largest scan that is taken, in MB.

    Raises
    ------
    InputError
        If the packages are missing, the port is taken, or a run cannot be asked.

    Examples
    --------
    fmrilm web runs/instruct
    fmrilm web runs/sex runs/age --cohort data/UKB --port 9000
    fmrilm web runs/instruct --no-browser --host 0.0.0.0
    """
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise InputError(HINT) from None
    from fmrilm.web.guard import Door, is_loopback

    if max_upload_mb < 1:
        raise InputError(f"--max-upload-mb is {max_upload_mb}: give 1 at least")
    if token is None:
        token = "" if is_loopback(host) else secrets.token_urlsafe(24)
    elif len(token) < 16 or not token.isascii() or not token.isprintable():
        raise InputError("--token needs 16 characters at least, of ASCII")
    door = Door(host, token, most_upload=max_upload_mb * 2**20)
    app = build(runs, cohort, door)
    listener = listen(host, port)
    address = address_of(listener, host, token)
    print(f"fmrilm web: {address} (Ctrl-C stops it)", flush=True)
    if browser:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    try:
        make_server(app).run(sockets=[listener])
    except KeyboardInterrupt:
        print("fmrilm web: stopped", file=sys.stderr)
    finally:
        listener.close()
    return 0


def build(runs: list[str], cohorts: list[str] | None, door: Door) -> Guard:
    """The application for runs and cohorts.

    Parameters
    ----------
    runs, cohorts : list of str
        As for :func:`web`.
    door : Door
    """
    from fmrilm.asking.pipeline import FMRIPipeline
    from fmrilm.web.server import make_app
    from fmrilm.web.studio import Studio, trained_on
    from fmrilm.web.uploads import Uploads
    from fmrilm.web.worker import Worker

    pipelines = [FMRIPipeline(run) for run in runs]
    for pipeline in pipelines:
        pipeline.run.check_answers()
    folders = trained_on(pipelines) if cohorts is None else cohorts
    studio = Studio(pipelines, folders, Uploads(door.most_upload))
    studio.about()  # what is wrong with a cohort is said now
    return make_app(studio, Worker(), door)


def make_server(app: Guard) -> uvicorn.Server:
    """The server of an application: it logs no requests and does not say what it is."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=GRACE,
            limit_concurrency=512,
        )
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises
    ------
    InputError
        If the port is taken, or the address is none of this machine's.
    """
    if not 0 <= port <= MOST_PORT:
        raise InputError(f"--port is {port}: give one of 0 to {MOST_PORT}")
    try:
        [(family, *_, place), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listener = socket.create_server(place[:2], family=family, backlog=256)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port} ({error}): give another --port or --host"
        ) from None
    return listener


def address_of(listener: socket.socket, host: str, token: str) -> str:
    """What to type into a browser."""
    name = socket.gethostname() if host in ("", "0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    query = f"?token={token}" if token else ""
    return f"http://{name}:{listener.getsockname()[1]}/{query}"
