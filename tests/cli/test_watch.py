"""``detect --watch``: the live view on a terminal, lines and objects elsewhere, and how it ends."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from devbench.cli import watch
from devbench.detection import NvmlError
from devbench.doctor.recording import RecordedCalls, call_name
from devbench.telemetry.live import Looker
from tests.cli.command import devbench
from tests.doctor.machines import GIB, server

SICK = {
    "CurrentClocksEventReasons": 0x44,
    "PowerUsage": 447_000,
    "UtilizationRates": {"gpu": 97, "memory": 41},
    "ComputeRunningProcesses": [
        {"pid": 4242, "usedGpuMemory": 8 * GIB},
        {"pid": 4243, "usedGpuMemory": None},
    ],
    "Temperature, 0": {"error": "NotSupported"},
}

STAT = "cpu  0 0 0 0 0 0 0 0 0 0\n" + "".join(
    f"cpu{n} {{}} 0 0 {{}} 0 0 0 {{}} 0 0\n" for n in range(8)
)


@pytest.fixture
def root() -> Iterator[Path]:
    """The server of eight GPUs, of which number 3 is hot, with a process that is ours to see."""
    with ExitStack() as stack:
        folder = stack.enter_context(server().root())
        (folder / "proc/4242").mkdir()
        (folder / "proc/4242/comm").write_text("train\x1b[2J\n")
        (folder / "proc/self/stat").write_text("1 (x) S 0 1 1 0 -1 0 0 0 0 0 5 1 0 0 20 0 2 0\n")
        (folder / "proc/stat").write_text(STAT.format(*[0, 0, 0] * 8))
        yield folder


def load(root: Path) -> None:
    """Each CPU worked 30 of 100 ticks and was stolen for 10."""
    (root / "proc/stat").write_text(STAT.format(*[30, 60, 10] * 8))


def looker(root: Path, **sick: Any) -> Looker:
    return Looker(RecordedCalls(server({**SICK, **sick}).calls), root)


def test_the_moment_has_every_figure_and_question_marks_for_the_others(root: Path) -> None:
    one = looker(root)
    load(root)
    now = one.look()
    assert (now.host.cpus, now.host.busy, now.host.steal) == (8, 0.3, 0.1)
    assert now.host.available_memory_bytes == 60_000_000 * 1024
    assert [gpu.index for gpu in now.gpus] == list(range(8))
    hot, rest = now.gpus[3], now.gpus[4]
    assert hot.clock_events == ("software power cap", "hardware thermal slowdown")
    assert (hot.power_w, hot.power_limit_w, hot.utilization) == (447, 450, 0.97)
    assert (hot.temperature_c, hot.unread) == (None, {"temperature_c": "NotSupported"})
    assert hot.processes is not None
    assert [(p.pid, p.memory_bytes) for p in hot.processes] == [(4242, 8 * GIB), (4243, None)]
    assert (rest.temperature_c, rest.processes, rest.unread) == (35, (), {})


def test_the_live_view_fits_80_columns_and_a_small_terminal(root: Path) -> None:
    one = looker(root)
    load(root)
    out = Console(width=80, record=True, file=io.StringIO())
    out.print(watch.page(one.look()))
    text = out.export_text()
    shown = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, shown)) <= 80
    assert len(shown) < 24
    assert "8 CPUs busy 30 % · steal 10 %" in shown[0]
    assert "  3  97 %  210/2520      405  447/450  ??  1.0/80" in shown
    assert any(line.startswith("GPU 3: held by software power cap, hardware") for line in shown)
    assert "\x1b[2J" not in text


def test_a_gpu_that_is_lost_in_between_keeps_its_line(root: Path) -> None:
    calls = dict(server().calls)

    class Lost(RecordedCalls):
        def query(self, function: str, *arguments: Any) -> Any:
            if self.calls.get("lost") and "gpu3" in arguments:
                raise NvmlError("GpuIsLost")
            return super().query(function, *arguments)

    one = Looker(Lost(calls), root)
    calls["lost"] = 1
    now = one.look()
    assert now.gpus[3].unread["power_w"] == "GpuIsLost"
    (line,) = (line for line in watch.lines(now) if "GPU 3 " in line)
    assert "busy ?? % · SM ??/2520 MHz · memory ?? MHz · ??/450 W · ?? °C · ?? GiB" in line
    assert "held by ?? · processes ??" in line
    assert "busy 0 %" in next(line for line in watch.lines(now) if "GPU 4 " in line)


@pytest.fixture
def two_seconds(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command on the recorded server, with Ctrl-C after two looks."""
    calls = RecordedCalls(server(SICK).calls)
    monkeypatch.setattr("devbench.telemetry.live.Looker", lambda: Looker(calls, root))
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("devbench.cli.watch.time.sleep", sleep)


def test_without_a_terminal_there_are_plain_lines_and_130(two_seconds: None) -> None:
    answer = devbench("detect", "--watch")
    assert (answer.code, answer.err) == (130, "")
    lines = answer.out.splitlines()
    assert len(lines) == 2 * 9
    assert "\x1b" not in answer.out
    assert "447/450 W" in lines[4]
    assert "train�[2J (4242) 8.0 GiB, ?? (4243) ?? GiB" in lines[4]


def test_as_json_each_moment_is_one_object_on_one_line(two_seconds: None) -> None:
    answer = devbench("detect", "--watch", "--json")
    assert (answer.code, answer.err) == (130, "")
    moments = [json.loads(line) for line in answer.out.splitlines()]
    assert [one["schema"] for one in moments] == ["devbench.watch/1"] * 2
    assert moments[0]["gpus"][3]["power_w"] == 447
    assert moments[1]["gpus"][3]["processes"][0]["pid"] == 4242
    assert moments[0]["time"] <= moments[1]["time"]


def test_without_a_driver_the_host_is_watched_and_the_reason_said(root: Path) -> None:
    bare = Looker(RecordedCalls({"nvmlInit()": {"error": "LibraryNotFound"}}), root)
    host, reason = watch.lines(bare.look())
    assert "8 CPUs busy" in host
    assert reason.endswith("no NVIDIA driver is installed (its NVML library is not there)")


def test_a_look_asks_nothing_twice_and_nothing_that_stays_the_same(root: Path) -> None:
    asked: list[str] = []

    class Counting(RecordedCalls):
        def query(self, function: str, *arguments: Any) -> Any:
            asked.append(call_name(function, arguments))
            return super().query(function, *arguments)

    one = Looker(Counting(server().calls), root)
    asked.clear()
    one.look()
    assert len(asked) == len(set(asked)) == 8 * 8
    assert not [call for call in asked if "Max" in call or "Limit" in call or "Handle" in call]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_the_terminal_with_its_cursor(sent: signal.Signals) -> None:
    program = (
        "from devbench.detection import nvml; from devbench.cli import main\n"
        "from devbench.doctor.recording import RecordedCalls\n"
        "from devbench.telemetry import live; from tests.doctor.machines import server\n"
        "live.Pynvml = lambda: RecordedCalls(server().calls)\n"
        "main()\n"
    )
    terminal, other = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", program, "detect", "--watch"],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
        stdin=other,
        stdout=other,
        stderr=other,
        start_new_session=True,
    )
    os.close(other)
    try:
        seen = _read_until(terminal, "Ctrl-C ends it")
        child.send_signal(sent)
        seen += _read_until(terminal, None)
        assert child.wait(30) == 130
    finally:
        child.kill()
        os.close(terminal)
    assert "210/2520" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
    assert "Traceback" not in seen


def _read_until(terminal: int, text: str | None) -> str:
    """What the terminal shows up to `text`, or up to its end."""
    seen, until = "", time.monotonic() + 30
    while (text is None or text not in seen) and time.monotonic() < until:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            seen += os.read(terminal, 65536).decode(errors="replace")
        except OSError:  # the other side has closed it
            break
    return seen
