"""Processes that compute together: started, asked, watched and ended as one.

A rank is a fresh interpreter, ``python -P -m MODULE``, so it imports its framework and sets it up
before the framework's runtime starts. It answers one request at a time, over a socket pair of its
own: no port is taken, and no semaphore or shared memory of ``/dev/shm`` is needed.

No rank outlives its group. One that dies, fails or does not answer ends all of them, and the reason
goes into the row. A rank whose parent is gone sees the end of its input and ends itself, also in the
middle of a step.
"""

from __future__ import annotations

import os
import pickle
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

import psutil

from devbench import DevbenchError

#: Importing a framework takes seconds, from a cold network disk a minute.
START_S: Final = 120.0
#: A step that devbench repeats takes seconds.
PATIENCE_S: Final = 60.0
#: Ranks that lose a peer complain, and may do so before its death is seen.
_AFTERMATH_S: Final = 1.0

#: Which of several troubles is the cause of the others.
_DIED, _FAILED = range(2)


class RankFailed(DevbenchError):
    """A rank died, raised an exception or did not answer in time."""


class Ranks:
    """A rank for each of `jobs`, which are the arguments that the module's class is made with.

    module: calls `serve` when it is run. environment: set for all ranks, besides this process's.
    Raises RankFailed, or MemoryError where that is what a rank met, in every method but `close`; the
    ranks are gone by then.
    """

    def __init__(
        self,
        module: str,
        jobs: Sequence[Mapping[str, Any]],
        scratch: Path,
        environment: Mapping[str, str],
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ranks-", dir=scratch))
        self._patience_s = patience_s
        self._processes: list[subprocess.Popen[bytes]] = []
        self._connections: list[Connection[Any, Any]] = []
        try:
            for rank, job in enumerate(jobs):
                self._start(module, rank, job, {**os.environ, **environment})
            self._answers("start", START_S)
            for job_file in self._folder.glob("*.job"):  # read by then, and as large as the inputs
                job_file.unlink()
        except BaseException:
            self.kill()
            raise

    def _start(
        self, module: str, rank: int, job: Mapping[str, Any], environment: Mapping[str, str]
    ) -> None:
        # A file takes any size at once; a socket would wait for a rank that does not read.
        path = self._folder / f"rank-{rank}.job"
        path.write_bytes(pickle.dumps(dict(job)))
        ours, theirs = Pipe()
        with theirs, self._log(rank).open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-m", module, str(theirs.fileno()), str(path)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    pass_fds=[theirs.fileno()],
                    # A stopped process cannot see the end of its input. In a group of its own it is
                    # continued and hung up by the kernel when its parent ends (POSIX, _exit: orphaned
                    # process groups).
                    process_group=0,
                )
            )
        self._connections.append(ours)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def ask(self, request: str) -> list[Any]:
        """What each rank's method of that name returns, once all of them have."""
        for connection in self._connections:
            with suppress(OSError):  # one that is gone shows itself when it does not answer
                connection.send(request)
        return self._answers(request, self._patience_s)

    def _answers(self, request: str, patience_s: float) -> list[Any]:
        answers: dict[int, Any] = {}
        troubles: list[tuple[int, Exception]] = []
        waiting = {connection: rank for rank, connection in enumerate(self._connections)}
        end = time.monotonic() + patience_s
        while waiting and (ready := wait(list(waiting), max(0.0, end - time.monotonic()))):
            for connection in ready:
                assert isinstance(connection, Connection)
                rank = waiting.pop(connection)
                try:
                    problem, value = connection.recv()
                except (EOFError, OSError):
                    troubles.append((_DIED, RankFailed(f"rank {rank} {self._end_of(rank)}")))
                    continue
                if problem is None:
                    answers[rank] = value
                else:
                    troubles.append((_FAILED, problem(f"rank {rank}: {value}")))
            if troubles:
                end = min(end, time.monotonic() + _AFTERMATH_S)
        if not troubles and not waiting:
            return [answers[rank] for rank in sorted(answers)]
        if not troubles:
            silent = ", ".join(f"rank {rank} ({self._state(rank)})" for rank in waiting.values())
            text = f"no answer to {request!r} within {patience_s:g} s from {silent}"
            troubles.append((_FAILED, RankFailed(text)))
        self.kill()
        raise min(troubles, key=lambda trouble: trouble[0])[1]

    def _end_of(self, rank: int) -> str:
        """How a rank ended whose connection is closed."""
        try:
            code = self._processes[rank].wait(timeout=_AFTERMATH_S)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        words = self._log(rank).read_text(errors="replace").strip().splitlines()
        return f"ended with exit status {code}" + (f": {words[-1][:300]}" if words else "")

    def _state(self, rank: int) -> str:
        """What the system says of a rank: running, sleeping, stopped."""
        try:
            return str(psutil.Process(self._processes[rank].pid).status())
        except psutil.NoSuchProcess:
            return "gone"

    def _log(self, rank: int) -> Path:
        return self._folder / f"rank-{rank}.log"

    def close(self) -> None:
        """The end of its input ends a rank."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
        self.kill()

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        for connection in self._connections:
            connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def serve(make: Callable[..., Any]) -> None:
    """What the module of a rank calls when it is run: make the rank's object and answer for it.

    A request is the name of one of its methods.
    """
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                requests.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)  # the main thread may be waiting for another rank

    threading.Thread(target=listen, daemon=True).start()
    try:
        rank = make(**pickle.loads(Path(sys.argv[2]).read_bytes()))
        connection.send((None, None))
        while True:
            connection.send((None, getattr(rank, requests.get())()))
    except Exception as error:  # noqa: BLE001  # whatever it is becomes the row's reason
        traceback.print_exc()
        text = " ".join(f"{type(error).__name__}: {error}".split())
        connection.send((_kind(error), text[:400]))
    # Not by the interpreter's way out: that waits for threads that wait for other ranks.
    sys.stderr.flush()
    os._exit(1)


def _kind(error: Exception) -> type[Exception]:
    """What the parent raises: both frameworks' adapters know a MemoryError."""
    names = {base.__name__ for base in type(error).__mro__}
    known = {"MemoryError", "OutOfMemoryError", "ResourceExhaustedError"}
    return MemoryError if names & known else RankFailed
