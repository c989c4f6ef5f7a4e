"""Asking every framework at once, each in a process of its own.

Two frameworks in one process can crash or hang by import order alone, one that is broken must not
take the others with it, and importing is slow: so the children are started before anything else is
done, and answers come in the order in which they are ready.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from types import TracebackType
from typing import IO

from devbench.detection.host import usable_threads
from devbench.detection.records import FrameworkAnswer, view_from_json
from devbench.frameworks.base import Framework
from devbench.protocol import Message, ProtocolError, decode

#: TensorFlow with eight cold GPUs on a network file system takes most of a minute.
TIMEOUT_S = 120.0

#: A child that was killed is gone at once, or stuck in a driver for as long as that likes.
_GONE_S = 1.0

_LOG_LINES = 20

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours and cursor movements of a terminal

_SIGNAL_HINTS = {
    "SIGILL": ": its build needs instructions that this CPU does not have",
    "SIGKILL": ": killed from outside, by the kernel if memory ran out",
}


class Asking:
    """The children at work. Iterate for their answers; leaving the `with` block ends what still runs."""

    def __init__(self, adapters: Mapping[str, Framework], threads: int, timeout_s: float) -> None:
        self._children: list[subprocess.Popen[str]] = []
        self._waiting = ThreadPoolExecutor(max_workers=max(1, len(adapters)))
        self._answers: list[Future[FrameworkAnswer]] = []
        for name, adapter in adapters.items():
            try:
                child, log = _start(adapter, threads)
            except Exception as error:  # noqa: BLE001  # a plugin's environment(), or the system's limits
                reason = f"could not be asked: {type(error).__name__}: {error}"
                self._answers.append(self._waiting.submit(_failed, name, reason, []))
                continue
            self._children.append(child)
            self._answers.append(self._waiting.submit(_wait, name, adapter, child, log, timeout_s))

    def __iter__(self) -> Iterator[FrameworkAnswer]:
        return (answer.result() for answer in as_completed(self._answers))

    def __enter__(self) -> Asking:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for child in self._children:
            if child.poll() is None:
                _end(child)
        self._waiting.shutdown()


def start_asking(
    adapters: Mapping[str, Framework], threads: int | None = None, *, timeout_s: float = TIMEOUT_S
) -> Asking:
    """Start a child for each adapter and return at once; iterate over the result in a `with` block. Every
    adapter gets an answer; nothing that a framework does is an error."""
    return Asking(adapters, usable_threads() if threads is None else threads, timeout_s)


def _start(adapter: Framework, threads: int) -> tuple[subprocess.Popen[str], IO[str]]:
    kind = type(adapter)
    # A file rather than a pipe: whatever else the framework starts may hold it open as it likes.
    log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
    try:
        child = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "devbench.detection.child"),
                *(f"{kind.__module__}:{kind.__qualname__}", str(threads)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | adapter.environment(None, threads),
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # so that what it starts can be ended with it
        )
    except BaseException:
        log.close()
        raise
    return child, log


def _wait(
    name: str, adapter: Framework, child: subprocess.Popen[str], log: IO[str], timeout_s: float
) -> FrameworkAnswer:
    late = False
    with log:
        try:
            output, _ = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            late = True
            _end(child)
            try:
                output, _ = child.communicate(timeout=_GONE_S)
            except subprocess.TimeoutExpired as stuck:  # in the kernel: nobody waits for that
                output = (stuck.output or b"").decode("utf-8", "replace")
        log.seek(0)
        lines = [line for written in log if (line := _ESCAPES.sub("", written).rstrip())]
    return read_answer(name, adapter, output, lines, None if late else child.returncode, timeout_s)


def read_answer(
    name: str,
    adapter: Framework,
    output: str,
    lines: list[str],
    exit_status: int | None,
    timeout_s: float,
) -> FrameworkAnswer:
    """What a child said, or what its end tells where it said nothing.

    lines: what it wrote to standard error. exit_status: as Popen gives it, None where time ran out.
    """
    message = _message(output)
    if message is not None:
        return _answer(name, adapter, message, lines)
    if exit_status is None:
        return _failed(name, f"gave no answer within {timeout_s:g} s and was ended", lines)
    return _failed(name, how_it_ended(exit_status), lines)


def _end(child: subprocess.Popen[str]) -> None:
    if not hasattr(os, "killpg"):  # Windows
        child.kill()
        return
    with suppress(ProcessLookupError):  # it ended by itself meanwhile
        os.killpg(child.pid, signal.SIGKILL)


def _message(output: str) -> Message | None:
    """The child's one message. Something that runs at every start of Python may print before it."""
    for line in reversed(output.splitlines()):
        try:
            return decode(line)
        except ProtocolError:
            continue
    return None


def _answer(name: str, adapter: Framework, message: Message, lines: list[str]) -> FrameworkAnswer:
    log = tuple(lines[-_LOG_LINES:])
    if message["type"] == "missing":
        reason = f"not installed: pip install 'devbench[{adapter.extra}]'"
        return FrameworkAnswer(name=name, status="missing", reason=reason, log=log)
    if message["type"] == "failed":
        reason = f"does not start: {message['error']}"
        return FrameworkAnswer(name=name, status="failed", reason=reason, log=log)
    return FrameworkAnswer(
        name=name,
        status="ok",
        view=view_from_json(message["view"]),
        visible_devices=message["visible_devices"],
        log=log,
    )


def _failed(name: str, reason: str, lines: list[str]) -> FrameworkAnswer:
    """A child that said nothing itself: its last line on standard error is the best there is."""
    if lines:
        reason += f"; the last it wrote: {lines[-1]}"
    return FrameworkAnswer(
        name=name, status="failed", reason=reason, log=tuple(lines[-_LOG_LINES:])
    )


def how_it_ended(exit_status: int) -> str:
    """Popen's status: negative is a signal."""
    if exit_status >= 0:
        return f"ended its process with status {exit_status} while it started"
    try:
        name = signal.Signals(-exit_status).name
    except ValueError:
        name = f"signal {-exit_status}"
    return f"crashed with {name} while it started{_SIGNAL_HINTS.get(name, '')}"
