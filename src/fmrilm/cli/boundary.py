"""Where the command line ends: wrong input is one sentence, a fault of ours keeps its traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from fmrilm.errors import InputError
from fmrilm.readers import is_full_disk, reason, tell_os_error

WRONG_INPUT, FAULT, INTERRUPTED, TERMINATED = 2, 1, 130, 143
_REPORT = (
    "fmrilm: this is a fault of fmrilm, not of your input: please report it with the lines above, "
    "the command, and what `fmrilm --version` says"
)


class Terminated(BaseException):
    """The process was asked to end (SIGTERM)."""


@contextmanager
def one_sentence() -> Iterator[None]:
    """Run a command; end the process with a sentence and an exit code if it fails.

    Readers make an :class:`InputError` of whatever is wrong with a file, at the place where they
    know it. What the operating system refuses anywhere else (full disks, permissions, paths that
    are no files) is told here. Everything else is a fault of ours.
    """
    before = _on_terminate()
    try:
        yield
    except (InputError, FileNotFoundError) as error:
        _end(str(error), WRONG_INPUT)
    except KeyboardInterrupt:
        _end("interrupted; the same command goes on where it can", INTERRUPTED)
    except Terminated:
        _end("terminated; the same command goes on where it can", TERMINATED)
    except BrokenPipeError:  # the reader of our output has gone: `fmrilm ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAULT)
    except OSError as error:
        _end(tell_os_error(error), WRONG_INPUT)
    except Exception as error:
        told = getattr(error, "format_message", None)  # a usage error of typer
        if told is not None:
            _end(f"{told().rstrip('.')} (see `{_help(error)}`)", WRONG_INPUT)
        if is_full_disk(error):
            _end(f"the disk is full ({reason(error)}): free some, then run it again", WRONG_INPUT)
        if isinstance(error, MemoryError) or "not enough memory" in str(error):
            _end(f"there is not enough memory ({reason(error)}): use less, or another machine",
                 WRONG_INPUT)  # fmt: skip
        traceback.print_exc()
        _say(_REPORT)
        sys.exit(FAULT)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _help(error: Exception) -> str:
    """The command that shows the help of what was misused."""
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context is not None else 'fmrilm'} --help"


def _on_terminate() -> Any:
    """Have SIGTERM end what is running as Ctrl-C does; return what it did before."""
    if threading.current_thread() is not threading.main_thread():
        return None

    def stop(*_: object) -> NoReturn:
        raise Terminated

    return signal.signal(signal.SIGTERM, stop)


def _end(sentence: str, code: int) -> NoReturn:
    _say(f"fmrilm: {' '.join(sentence.split())}")
    sys.exit(code)


def _say(line: str) -> None:
    from rich.console import Console

    Console(stderr=True).print(line, style="red", markup=False, highlight=False, soft_wrap=True)
