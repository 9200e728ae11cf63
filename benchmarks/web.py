"""How long `fmrilm web` takes beside its model, with many clients at once.

    python benchmarks/web.py RUN COHORT --clients 50 --questions 4

Starts its own server on this machine. Every client chooses a scan and asks; the server's own share
of an answer is what is left when the time in the queue and in the model is taken off.
"""

from __future__ import annotations

import argparse
import threading
import time
from dataclasses import dataclass, field

import httpx
import numpy as np

from fmrilm.asking.pipeline import FMRIPipeline
from fmrilm.web.guard import Door
from fmrilm.web.server import make_app
from fmrilm.web.studio import Studio
from fmrilm.web.uploads import Uploads
from fmrilm.web.web import listen, make_server
from fmrilm.web.worker import Worker

MOST_WAIT = 120.0  # seconds for one answer


@dataclass
class Times:
    """Seconds of every answered question, and how often the server was full."""

    whole: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    model: list[float] = field(default_factory=list)
    refused: int = 0
    failed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def submit(client: httpx.Client, path: str, body: dict, times: Times) -> tuple[dict, float]:
    """Start a job, coming back while the server is full; its last event, and its seconds."""
    while True:
        begun = time.perf_counter()
        answer = client.post(path, json=body)
        if answer.status_code != 503:
            break
        with times.lock:
            times.refused += 1
        time.sleep(0.05 + 0.1 * np.random.default_rng().random())
    answer.raise_for_status()
    with client.stream("GET", f"/api/jobs/{answer.json()['id']}/events") as stream:
        last = [httpx.Response(200, content=line).json() for line in stream.iter_lines()][-1]
    return last, time.perf_counter() - begun


def ask_as_client(address: str, number: int, scans: int, questions: int, times: Times) -> None:
    with httpx.Client(base_url=address, timeout=MOST_WAIT) as client:
        chosen, _ = submit(client, "/api/scans/choose", {"cohort": 0, "row": number % scans}, times)
        path = f"/api/scans/{chosen['scan']['id']}/questions"
        for _ in range(questions):
            last, seconds = submit(client, path, {}, times)
            with times.lock:
                if last["type"] != "done":
                    times.failed += 1
                    continue
                times.whole.append(seconds)
                times.model.append(last["ran"])
                times.own.append(seconds - last["waited"] - last["ran"])


def measure(run: str, cohort: str, clients: int, questions: int) -> Times:
    """Ask from ``clients`` threads at once."""
    studio = Studio([FMRIPipeline(run)], [cohort], Uploads(2**20))
    studio.shelf.most = max(studio.shelf.most, clients)
    listener = listen("127.0.0.1", 0)
    server = make_server(make_app(studio, Worker(), Door()))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    address, times = f"http://127.0.0.1:{listener.getsockname()[1]}", Times()
    scans = len(studio.cohorts[0].scans)
    crowd = [
        threading.Thread(target=ask_as_client, args=(address, number, scans, questions, times))
        for number in range(clients)
    ]
    for member in crowd:
        member.start()
    for member in crowd:
        member.join()
    server.should_exit = True
    thread.join(10)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("cohort")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--questions", type=int, default=4)
    given = parser.parse_args()
    times = measure(given.run, given.cohort, given.clients, given.questions)
    print(f"{given.clients} clients, {len(times.whole)} answers, {times.failed} failed, "
          f"{times.refused} times full")  # fmt: skip
    for name in ("own", "model", "whole"):
        p50, p95, p99 = 1000 * np.quantile(getattr(times, name), (0.5, 0.95, 0.99))
        print(f"{name:<6} p50 {p50:8.1f} ms   p95 {p95:8.1f} ms   p99 {p99:8.1f} ms")


if __name__ == "__main__":
    main()
