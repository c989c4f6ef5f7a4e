"""The live machine as a recording. The slow parts run at once: frameworks, the driver, commands."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from devbench.detection import FrameworkAnswer
from devbench.detection.asking import read_answer
from devbench.doctor.bounded import Child, Ended
from devbench.doctor.here import (
    CHOOSING,
    calling_process,
    chosen_variables,
    entries,
    packages,
    pci_devices,
    process_names,
    read_files,
    system,
)
from devbench.doctor.recording import (
    Arithmetic,
    FrameworkRecord,
    Library,
    Load,
    Recording,
    Said,
    Trial,
)
from devbench.doctor.turns import Turns
from devbench.frameworks.base import Framework
from devbench.model import Json
from devbench.protocol import Message, ProtocolError, decode, encode
from devbench.registry import Broken, broken_frameworks, frameworks
from devbench.stress.records import Verdict

#: A driver that initialises eight cold GPUs takes ten seconds or more.
DRIVER_S: Final = 30.0
FRAMEWORK_S: Final = 120.0
COMMAND_S: Final = 5.0

#: Of the kernel's log only what it says of GPUs.
_KERNEL_LINES: Final = re.compile(r"NVRM|nvidia|nouveau|amdgpu|\bXid\b", re.IGNORECASE)
_MOST_LINES: Final = 400


def capture(
    root: Path = Path("/"),
    adapters: Mapping[str, Framework] | None = None,
    *,
    process: bool = False,
) -> Recording:
    """The machine that this process runs on.

    root: where /proc, /sys and /dev are. process: whether the calling process is part of what is to be
    judged, as in a notebook. Takes as long as the slowest framework, and never longer than its bound.
    """
    broken = broken_frameworks() if adapters is None else ()
    adapters = frameworks() if adapters is None else adapters
    # Windows hands no pipes to a child in this way.
    turns = Turns.start() if os.name == "posix" else None
    asked = {name: _start_framework(adapter, turns) for name, adapter in adapters.items()}
    if turns is not None:
        turns.close()
    driver = _start(
        [sys.executable, "-P", "-m", "devbench.doctor.child", "driver"], _bare(), DRIVER_S
    )
    commands = {words: _start(words, dict(os.environ), COMMAND_S) for words in _commands(root)}
    pids = [os.getpid(), driver.pid] if isinstance(driver, Child) else [os.getpid()]
    pids += [child.pid for child in asked.values() if isinstance(child, Child)]
    files, pci = read_files(root), tuple(pci_devices(root))  # while the children work
    interpreter, installed = system(root), tuple(packages())
    said = tuple(_said(words, child) for words, child in commands.items())
    calls = _calls(driver)
    answers = [_framework(name, adapters[name], child) for name, child in asked.items()]
    answers += [_broken(row) for row in broken]
    return Recording(
        system=interpreter,
        files=files | process_names(root, calls),
        entries=tuple(entries(root)),
        pci=pci,
        calls=calls,
        frameworks=tuple(answers),
        packages=installed,
        variables=chosen_variables(os.environ),
        commands=said,
        process=calling_process() if process else None,
        pids=tuple(pids),
    )


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The system refused to start a process."""

    reason: str


def _start(
    words: Sequence[str],
    environ: Mapping[str, str],
    timeout_s: float,
    pass_fds: Sequence[int] = (),
) -> Child | NotStarted:
    try:
        return Child(words, environ, timeout_s, pass_fds)
    except OSError as error:
        return NotStarted(f"{words[0]}: {error.strerror}")


def _bare() -> dict[str, str]:
    """The driver is asked without what hides its devices."""
    return {name: value for name, value in os.environ.items() if name not in CHOOSING}


def _start_framework(adapter: Framework, turns: Turns | None) -> Child | NotStarted:
    kind = type(adapter)
    try:
        wanted = adapter.environment(None, 1)
    except Exception as error:  # noqa: BLE001  # a plugin's
        return NotStarted(f"could not be asked: {type(error).__name__}: {error}")
    # As the user's own programs run: with their own threads, and with all that TensorFlow has to say.
    kept = {name: value for name, value in wanted.items() if "THREADS" not in name}
    environ = dict(os.environ) | kept | {"TF_CPP_MIN_LOG_LEVEL": "0"}
    words = [sys.executable, "-P", "-m", "devbench.doctor.child", "framework"]
    words.append(f"{kind.__module__}:{kind.__qualname__}")
    if turns is None:
        return _start(words, environ, FRAMEWORK_S)
    return _start([*words, str(turns)], environ, FRAMEWORK_S, turns.descriptors())


def _messages(output: str) -> Iterator[Message]:
    for line in output.splitlines():
        with suppress(ProtocolError):  # something that prints at every start of Python
            yield decode(line)


def _calls(driver: Child | NotStarted) -> dict[str, Json]:
    if isinstance(driver, NotStarted):
        return {"nvmlInit()": {"error": driver.reason}}
    ended = driver.wait()
    calls: dict[str, Json] = {}
    pending = None
    for message in _messages(ended.output):
        if message["type"] == "asking":
            pending = message["call"]
        elif message["type"] == "answered":
            calls[message["call"]] = message["answer"]
            pending = None
    if pending is not None:
        calls[pending] = {"error": _how(ended, driver.timeout_s)}
    elif not calls:
        calls["nvmlInit()"] = {"error": _how(ended, driver.timeout_s)}
    return calls


def _how(ended: Ended, timeout_s: float) -> str:
    if ended.status is None:
        return f"did not come back within {timeout_s:g} s"
    last = next((line for line in reversed(ended.errors.splitlines()) if line.strip()), "")
    return f"its process ended with status {ended.status}" + (f": {last.strip()}" if last else "")


def _framework(name: str, adapter: Framework, child: Child | NotStarted) -> FrameworkRecord:
    if isinstance(child, NotStarted):
        return FrameworkRecord(
            answer=FrameworkAnswer(name=name, status="failed", reason=child.reason)
        )
    ended = child.wait()
    lines = [line.rstrip() for line in ended.errors.splitlines() if line.strip()]
    messages = list(_messages(ended.output))
    first = next((one for one in messages if one["type"] in ("view", "missing", "failed")), None)

    said = "" if first is None else encode(first["type"], **_fields(first))
    answer = read_answer(name, adapter, said, lines, ended.status, child.timeout_s)
    by_type = {message["type"]: message for message in messages}
    trials = [Trial(one["address"], one["error"]) for one in messages if one["type"] == "tried"]
    trying = [one["address"] for one in messages if one["type"] == "trying"]
    if len(trying) > len(trials):
        trials.append(Trial(trying[-1], _how(ended, child.timeout_s)))
    checked = [
        _arithmetic(one, one["verdict"], one["says"])
        for one in messages
        if one["type"] == "checked"
    ]
    checking = [one for one in messages if one["type"] == "checking"]
    if len(checking) > len(checked):
        # A crash is the device's or the framework's; what takes too long may be compiling.
        verdict: Verdict = "cannot tell" if ended.status is None else "fault"
        checked.append(_arithmetic(checking[-1], verdict, _how(ended, child.timeout_s)))
    return FrameworkRecord(
        answer=answer,
        arithmetic=tuple(checked),
        settings=by_type.get("settings", {}).get("settings", {}),
        trials=tuple(trials),
        loads=tuple(
            Load(one["address"], one["calls"]) for one in messages if one["type"] == "load"
        ),
        rates=by_type.get("rates", {}).get("rates", {}),
        libraries=tuple(
            Library(**one) for one in by_type.get("libraries", {}).get("libraries", ())
        ),
    )


def _arithmetic(message: Message, verdict: Verdict, says: str) -> Arithmetic:
    return Arithmetic(message["address"], message["check"], verdict, says)


def _fields(message: Message) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name not in ("v", "type")}


def _broken(row: Broken) -> FrameworkRecord:
    reason = f"the plugin cannot be loaded: {row.error}"
    return FrameworkRecord(answer=FrameworkAnswer(name=row.name, status="failed", reason=reason))


def _commands(root: Path) -> Iterator[tuple[str, ...]]:
    if sys.platform == "darwin":
        yield ("pmset", "-g", "batt")
    if not sys.platform.startswith("linux"):
        return
    if not any((root / "sys/bus/pci/drivers").glob("n*v*")) and not any(root.glob("dev/nvidia*")):
        return
    yield ("dmesg",)
    yield ("journalctl", "--dmesg", "--no-pager", "--output=short", "--lines=20000")
    yield ("systemctl", "is-active", "nvidia-fabricmanager")


def _said(words: tuple[str, ...], child: Child | NotStarted) -> Said:
    if isinstance(child, NotStarted):
        return Said(words[0], error=child.reason)
    ended = child.wait()
    output = ended.output
    if words[0] in ("dmesg", "journalctl"):
        if ended.status != 0:
            return Said(words[0], error=_how(ended, child.timeout_s))
        kept = [line for line in output.splitlines() if _KERNEL_LINES.search(line)]
        output = "\n".join(kept[-_MOST_LINES:])
    elif ended.status is None:
        return Said(words[0], error=_how(ended, child.timeout_s))
    return Said(words[0], output.strip())
