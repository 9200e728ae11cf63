"""One thread that reads scans and asks models; a bounded queue of jobs that can be cancelled."""

from __future__ import annotations

import asyncio
import secrets
import sys
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from fmrilm.errors import InputError

KEPT = 256  # jobs that have ended and can still be looked up
HEARTBEAT = 10.0  # seconds without an event after which a stream says that it is alive
FAULT = "this is a fault of fmrilm, not of your input; the terminal says more"
ENDS = ("done", "failed", "cancelled")


class CancelledError(Exception):
    """The job was cancelled while it ran."""


class FullError(Exception):
    """There are as many jobs waiting as there may be."""


class Job:
    """Something the worker does, and what it tells on the way.

    Parameters
    ----------
    kind : str
        scan, answer or origin.
    work : callable
        Takes the job; publishes events; what it returns is the content of the last event.
    on_end : callable, optional
        Called once when the job has ended, however it did.

    Attributes
    ----------
    state : str
        waiting, running, done, failed or cancelled.
    events : list of dict
        Each has a ``type``; the last one's is one of done, failed, cancelled.
    """

    def __init__(
        self,
        kind: str,
        work: Callable[[Job], dict[str, Any]],
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self.id = secrets.token_urlsafe(16)
        self.kind, self.state = kind, "waiting"
        self.events: list[dict[str, Any]] = []
        self._work, self._on_end = work, on_end
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._watchers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._made = time.perf_counter()
        self._began: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether no more events will come."""
        return self.state in ENDS

    def publish(self, kind: str, **content: Any) -> None:
        """Tell those who watch the job something."""
        with self._lock:
            self.events.append({"type": kind, **content})
            watchers = list(self._watchers)
        for loop, event in watchers:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def progress(self, share: float, text: str) -> None:
        """Tell how far the job is, and stop here if it was cancelled."""
        self.check()
        self.publish("progress", share=round(min(share, 1.0), 4), text=text)

    def check(self) -> None:
        """Stop here if the job was cancelled.

        Raises
        ------
        CancelledError
            If it was.
        """
        if self._cancelled.is_set():
            raise CancelledError

    def request_cancel(self) -> None:
        """Ask the job to stop at its next step."""
        self._cancelled.set()

    def run(self) -> None:
        """Do the work; whatever happens, the last event says how it ended."""
        self._began, self.state = time.perf_counter(), "running"
        try:
            self.check()
            self.end("done", **self._work(self))
        except CancelledError:
            self.end("cancelled")
        except (InputError, FileNotFoundError) as error:
            self.end("failed", detail=" ".join(str(error).split()))
        except Exception:
            traceback.print_exc(file=sys.stderr)
            self.end("failed", detail=FAULT)

    def end(self, state: str, **content: Any) -> None:
        """Publish the last event and let go of what the job held."""
        now = time.perf_counter()
        began = now if self._began is None else self._began
        if self._on_end is not None:
            self._on_end()
        self._work = _nothing
        self.state = state
        seconds = {"waited": began - self._made, "ran": now - began}
        self.publish(state, **content, **{k: round(v, 6) for k, v in seconds.items()})

    async def watch(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the events, those that were and those that come; a heartbeat where none does."""
        event = asyncio.Event()
        watcher = asyncio.get_running_loop(), event
        with self._lock:
            self._watchers.add(watcher)
        shown = 0
        try:
            while True:
                event.clear()
                fresh = self.events[shown:]
                for item in fresh:
                    yield item
                shown += len(fresh)
                if fresh and fresh[-1]["type"] in ENDS:
                    return
                try:
                    await asyncio.wait_for(event.wait(), HEARTBEAT)
                except TimeoutError:
                    yield {"type": "alive"}
        finally:
            with self._lock:
                self._watchers.discard(watcher)


def _nothing(job: Job) -> dict[str, Any]:
    return {}


class Worker:
    """The thread, and the queue in front of it.

    Parameters
    ----------
    size : int
        Jobs that may wait.
    """

    def __init__(self, size: int = 32) -> None:
        self.size = size
        self._waiting: deque[Job] = deque()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._running: Job | None = None
        self._change = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._loop, name="fmrilm-worker", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Cancel all jobs and end the thread; a step that takes longer is not waited for."""
        with self._change:
            self._stopping = True
            waiting = list(self._waiting)
            self._waiting.clear()
            if self._running is not None:
                self._running.request_cancel()
            self._change.notify_all()
        for job in waiting:
            job.end("cancelled")
        if self._thread is not None:
            self._thread.join(timeout)

    def submit(self, job: Job) -> Job:
        """Put a job at the end of the queue.

        Raises
        ------
        FullError
            If there is no room.
        """
        with self._change:
            if len(self._waiting) >= self.size or self._stopping:
                raise FullError
            self._jobs[job.id] = job
            self._forget_old()
            ahead = len(self._waiting) + (self._running is not None)
            job.publish("waiting", ahead=ahead)
            self._waiting.append(job)
            self._change.notify_all()
        return job

    def get(self, name: str) -> Job | None:
        """The job with an id; None if there is none, or it ended long ago."""
        return self._jobs.get(name)

    def cancel(self, job: Job) -> None:
        """Take a job out of the queue, or ask it to stop where it runs."""
        with self._change:
            is_waiting = job in self._waiting
            if is_waiting:
                self._waiting.remove(job)
        if is_waiting:
            job.end("cancelled")
        else:
            job.request_cancel()

    def _forget_old(self) -> None:
        ended = [name for name, job in self._jobs.items() if job.has_ended]
        for name in ended[: max(0, len(ended) - KEPT)]:
            del self._jobs[name]

    def _loop(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
                self._running = job = self._waiting.popleft()
            job.run()
            with self._change:
                self._running = None
