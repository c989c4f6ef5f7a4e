"""Child processes that may hang in a driver: started at once, waited for so long and no longer.

A process that is stuck in the kernel does not end when it is killed, so nobody waits for that. Output
goes to files: a pipe would stay open with the process that hangs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ended:
    """What a child left behind. status: as Popen gives it; None where it was ended for its time."""

    status: int | None
    output: str
    errors: str


class Child:
    """A running command. Raises OSError where it cannot be started."""

    def __init__(
        self,
        words: Sequence[str],
        environ: Mapping[str, str],
        timeout_s: float,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # closed when its end is known
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                list(words),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._errors,
                env=dict(environ),
                pass_fds=pass_fds,
                start_new_session=True,  # so that what it starts can be ended with it
            )
        except BaseException:
            self._output.close()
            self._errors.close()
            raise
        self.pid = self._process.pid

    def wait(self) -> Ended:
        """Its end, or what it wrote until its time ran out."""
        status: int | None = None
        try:
            status = self._process.wait(max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.end()
        texts = []
        for file in (self._output, self._errors):
            with file:
                file.seek(0)
                texts.append(file.read().decode("utf-8", "replace"))
        return Ended(status, *texts)

    def end(self) -> None:
        """Kill it with all that it started, if it still runs, and do not wait long for that."""
        if self._process.poll() is not None:
            return
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):  # it ended by itself meanwhile
                os.killpg(self.pid, signal.SIGKILL)
        else:
            self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
