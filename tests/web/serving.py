"""A server of the test's own, on a free port of this machine, and what a client does with it."""

import json
import threading
import time
from contextlib import contextmanager

import httpx
import numpy as np


@contextmanager
def serving(studio, worker, door):
    """Serve an application in a thread; yield its address."""
    from fmrilm.web.server import make_app
    from fmrilm.web.web import listen, make_server

    listener = listen("127.0.0.1", 0)
    server = make_server(make_app(studio, worker, door))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def make_studio(pipelines, cohorts, most=2**24):
    from fmrilm.web.studio import Studio
    from fmrilm.web.uploads import Uploads

    return Studio(pipelines, cohorts, Uploads(most))


def events_of(client, answer):
    """All events of the job that a request started."""
    assert answer.status_code == 202, answer.text
    with client.stream("GET", f"/api/jobs/{answer.json()['id']}/events") as stream:
        return [json.loads(line) for line in stream.iter_lines()]


def upload(client, *paths, names=None, run=0):
    """Upload files; the events of the job."""
    names = names or [path.name for path in paths]
    parts = [
        ("scan", (name, path.read_bytes(), "application/octet-stream"))
        for name, path in zip(names, paths, strict=True)
    ]
    return client.post(f"/api/scans?run={run}", files=parts)


def choose(client, row, cohort=0, run=0):
    """Choose a scan of a cohort; its view."""
    answer = client.post("/api/scans/choose", json={"run": run, "cohort": cohort, "row": row})
    events = events_of(client, answer)
    assert events[-1]["type"] == "done", events[-1]
    return events[-1]["scan"]


def ask(client, scan, question=None):
    """The answers to a question about a scan."""
    answer = client.post(f"/api/scans/{scan}/questions", json={"question": question})
    events = events_of(client, answer)
    assert events[-1]["type"] == "done", events[-1]
    return [event["answer"] for event in events if event["type"] == "answer"]


def connect(address, **headers):
    return httpx.Client(base_url=address, timeout=60, headers=headers)


def write_series(path, seed=0, rois=24, points=60):
    np.save(path, np.random.default_rng(seed).standard_normal((rois, points)).astype(np.float32))
    return path
