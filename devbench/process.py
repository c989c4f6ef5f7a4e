"""A worker process as the runner holds it: started, asked, waited for, ended."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import platformdirs

from devbench.detection.files import read_text
from devbench.errors import DevbenchError
from devbench.protocol import Message, ProtocolError, decode, encode

#: How long a log is kept that nothing is written to: 30 days.
KEPT_S: Final = 30 * 86400.0


def oom_kills(root: Path = Path("/")) -> int | None:
    """How many processes the kernel has killed for want of memory, of the machine's or of a control
    group's; None where it does not count them.

    Its killer sends SIGKILL, as a person or a batch system may too: only the count tells them apart.
    """
    for line in (read_text(root, "proc/vmstat") or "").splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return None


def log_path(name: str) -> Path:
    """Where the chatter of workers goes: the user's folder of logs, or that for temporary files where
    there can be none. Logs that nothing was written to for long are removed."""
    folder = platformdirs.user_log_path("devbench")
    with contextlib.suppress(OSError):  # a home that is not there, or cannot be written
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        return Path(tempfile.gettempdir()) / f"devbench-{name}.log"
    for log in folder.glob("*.log"):
        with contextlib.suppress(FileNotFoundError):  # another run removed it
            if log.stat().st_mtime < time.time() - KEPT_S:
                log.unlink()
    return folder / f"{name}.log"


class WorkerGone(DevbenchError):
    """The worker ended without an answer. `reason` and `detail` go into the row."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class WorkerTimeout(DevbenchError):
    """The worker did not answer in time."""


class WorkerProcess:
    """One child. Its chatter goes to `log`; its messages are read by a thread that waits in the kernel."""

    def __init__(
        self,
        environment: Mapping[str, str],
        log: Path,
        python: Path = Path(sys.executable),
        module: Sequence[str] = ("devbench.worker",),
        cwd: Path | None = None,
    ) -> None:
        """module: what it runs, with its arguments. cwd: where, if not here."""
        self._log = log
        self._oom_kills = oom_kills()
        self._log_start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as chatter:
            self._process = subprocess.Popen(
                # -P: a torch.py in the user's folder must not shadow torch.
                [str(python), "-P", "-m", *module],
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=chatter,
                env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
                text=True,
                encoding="utf-8",
                # Ctrl-C is the runner's to handle: the measurement in flight ends in order.
                start_new_session=True,
            )
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._answers.put(line)
        self._answers.put(None)

    def send(self, kind: str, **fields: Any) -> None:
        assert self._process.stdin is not None
        # A worker that is gone shows itself at the next receive, with its exit status.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(encode(kind, **fields))
            self._process.stdin.flush()

    def receive(self, timeout_s: float) -> Message:
        """The next message. Raises WorkerTimeout, WorkerGone, or ProtocolError for foreign text."""
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise WorkerTimeout(f"no answer for {timeout_s:.0f} s") from None
        if line is None:
            raise self._gone()
        try:
            return decode(line)
        except ProtocolError:
            self.kill()
            raise

    def _gone(self) -> WorkerGone:
        code = self._process.wait()
        last = self._last_words()
        if code < 0:
            name = signal.Signals(-code).name
            if name != "SIGKILL":
                return WorkerGone("signal", f"{name}{last}")
            if (oom_kills() or 0) > (self._oom_kills or 0):
                return WorkerGone(
                    "out-of-memory", f"the kernel ended it for want of memory (SIGKILL){last}"
                )
            hint = "" if self._oom_kills is not None else " (as when memory runs out)"
            return WorkerGone("signal", f"{name}{hint}{last}")
        return WorkerGone("exit", f"exit status {code}{last}")

    def _last_words(self) -> str:
        """The last line that the worker wrote to the log, as a clue."""
        with self._log.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - 4000))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return f"; last words: {lines[-1][:300]}" if lines else ""

    def kill(self) -> None:
        self._process.kill()
        self.close()

    def close(self) -> None:
        """End of input ends the worker, in the middle of a step too."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
