"""Recordings as files: what `devbench doctor --save` writes and `--from` reads.

::

    {"schema": "devbench.machine/1", "devbench": "0.1.0",
     "system": {"platform": "linux", …}, "files": {"proc/cpuinfo": "…"}, "calls": {"nvmlInit()": …},
     "frameworks": [{"answer": {"name": "torch", …}, …}], "commands": […], …}

A bundle may come from anybody, so it is read in full and checked in full before anything of it is used.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any, Final

from devbench import __version__
from devbench.detection import Gpu, GpuHealth
from devbench.doctor.facts import MAX_DEVICES, Facts, gather
from devbench.doctor.recording import Recording
from devbench.doctor.records import CouldNotCheck
from devbench.errors import UsageError
from devbench.model import Json
from devbench.redaction import redact

SCHEMA: Final = "devbench.machine/1"

#: A machine of 8 GPUs and 256 CPUs takes about 1 MB.
MAX_BYTES: Final = 32 * 2**20
MAX_FILES: Final = 20_000
#: Of a file name below the root; more would not fit below a temporary folder.
MAX_PATH: Final = 1000
MAX_DEPTH: Final = 16
#: Of one text: the kernel's log is the longest. Linux lets a variable have 128 KiB.
MAX_TEXT: Final = 512 * 2**10
MAX_VARIABLE: Final = 128 * 2**10
MAX_FRAMEWORKS: Final = 16
#: Mounts of control groups, times the depth of this process's own: a few dozen on a real machine.
MAX_GROUPS: Final = 5_000
#: Whether a backslash parts folders here. Elsewhere it is a letter: systemd writes "-" in the name of a
#: control group as ``\x2d``.
SEPARATES: Final = os.sep == "\\"

#: Groups that distributions and Docker make: they name nobody.
USUAL_GROUPS: Final = frozenset(
    [
        "adm",
        "audio",
        "bluetooth",
        "cdrom",
        "dialout",
        "dip",
        "disk",
        "docker",
        "floppy",
        "games",
        "input",
        "kvm",
        "libvirt",
        "lp",
        "lpadmin",
        "lxd",
        "netdev",
        "plugdev",
        "podman",
        "render",
        "sambashare",
        "scanner",
        "staff",
        "sudo",
        "systemd-journal",
        "tty",
        "users",
        "video",
        "wheel",
    ]
)


class BundleError(UsageError):
    """A file that should hold a recorded machine does not."""


def dump(recording: Recording, *, redacted: bool = False, names: Iterable[str] = ()) -> str:
    """The recording as the text of a bundle; with `redacted` nothing in it tells whose machine it is.

    names: of hosts and people, beyond those that the recording gives away.
    """
    data = {"schema": SCHEMA, "devbench": __version__, **asdict(recording)}
    if redacted:
        # A user often has a group of the same name. Those of device nodes are the distribution's.
        of_nodes = {entry.group for entry in recording.entries}
        own = set(recording.system.groups) - of_nodes - USUAL_GROUPS
        data = redact(data, [*names, *own])
    return json.dumps(data, indent=1, ensure_ascii=True) + "\n"


def load(path: str | Path) -> Recording:
    """The recording in a file. Raises BundleError naming the file and what is wrong with it."""
    try:
        told = Path(path).stat()
        if stat.S_ISCHR(told.st_mode) or stat.S_ISFIFO(told.st_mode):  # it may never end
            raise BundleError(f"{path} is no file; give the file of a recorded machine")
        if told.st_size > MAX_BYTES:
            raise BundleError(
                f"{path} is {told.st_size / 2**20:.0f} MiB; a recorded machine has at most "
                f"{MAX_BYTES >> 20} MiB"
            )
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BundleError(f"there is no file {path}") from None
    except UnicodeDecodeError:
        raise BundleError(f"{path} is not a recorded machine: it is not text in UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BundleError(f"{path} cannot be read: {reason}") from None
    return parse(text, str(path))


def parse(text: str, origin: str) -> Recording:
    """The recording that a text describes. Raises BundleError naming `origin` and the culprit."""
    from devbench.store.records import Misfit, from_json

    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        cut = "it ends too early" if error.pos >= len(text.rstrip()) else error.msg.lower()
        raise BundleError(
            f"{origin} is not a whole JSON file: {cut} (line {error.lineno}, column {error.colno})"
        ) from None
    except RecursionError:
        raise BundleError(f"{origin} is not a recorded machine: it is nested too deeply") from None
    except ValueError as error:  # NaN, or a number of thousands of digits
        raise BundleError(f"{origin} is not a recorded machine: {error}") from None
    _check_schema(data, origin)
    _check_depth(data, origin)
    _check_lengths(data, origin)
    del data["schema"]
    written_by = data.pop("devbench", "an unknown devbench")
    try:
        recording = from_json(Recording, data)
        _check_files(recording.files, Misfit)
        _check_amounts(recording, Misfit)
        _check_gpus(gather(recording), from_json)
    except CouldNotCheck as why:
        raise BundleError(f"{origin} is not a recorded machine: {why}") from None
    except Misfit as misfit:
        newer = (
            ""
            if written_by == __version__
            else f" (written by {written_by}, read by {__version__})"
        )
        raise BundleError(f"{origin}: {misfit}{newer}") from None
    return recording


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON knows")


def _check_schema(data: Json, origin: str) -> None:
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema == SCHEMA:
        return
    family = SCHEMA.rpartition("/")[0]
    if isinstance(schema, str) and schema.startswith(f"{family}/"):
        raise BundleError(
            f"{origin} has the schema {schema[:60]!r}; this devbench reads {SCHEMA!r}: upgrade it"
        )
    shown = repr(schema)[:60]
    raise BundleError(
        f"{origin} is not a recorded machine of `devbench doctor --save`: its schema is {shown}, "
        f"not {SCHEMA!r}"
    )


def _check_depth(data: Json, origin: str) -> None:
    level = [data]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for one in level
            if isinstance(one, dict | list)
            for item in (one.values() if isinstance(one, dict) else one)
        ]
    if level:
        raise BundleError(f"{origin} is not a recorded machine: it is nested too deeply")


def _check_lengths(data: Json, origin: str) -> None:
    """Readers search texts with patterns, whose time may grow faster than the text."""
    level = [data]
    while level:
        inner: list[Json] = []
        for one in level:
            if isinstance(one, dict):
                inner += [*one, *one.values()]
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, str) and len(one) > MAX_TEXT:
                raise BundleError(
                    f"{origin} is not a recorded machine: a text in it has {len(one) >> 10} KiB; at most "
                    f"{MAX_TEXT >> 10} are read"
                )
        level = inner


def _check_amounts(recording: Recording, misfit: Callable[[str, str], Exception]) -> None:
    """What is multiplied with each other when the machine is judged."""
    for place, number, most in (
        ("pci", len(recording.pci), MAX_DEVICES),
        ("frameworks", len(recording.frameworks), MAX_FRAMEWORKS),
    ):
        if number > most:
            raise misfit(place, f"has {number} entries; at most {most} are read")
    for name, value in recording.variables.items():
        if len(value) > MAX_VARIABLE:
            raise misfit(f"variables.{name[:60]}", f"is longer than {MAX_VARIABLE >> 10} KiB")
    mounts = recording.files.get("proc/self/mountinfo", "").count("\n") + 1
    if mounts * recording.files.get("proc/self/cgroup", "").count("/") > MAX_GROUPS:
        raise misfit("files.proc/self/cgroup", "is deeper than control groups are")


def _check_gpus(facts: Facts, from_json: Callable[..., Any]) -> None:
    """The fields made of the recorded calls have the types that NVML gives them."""
    for gpu in facts.gpus:
        loaded = dict(gpu.loaded or {})
        replays = loaded.pop("pcie_replays", 0)
        records = [
            gpu.nvml,
            gpu.health,
            Gpu(index=0, **loaded),
            GpuHealth(index=0, pcie_replays=replays),
        ]
        for record in records:
            if record is not None:
                from_json(type(record), json.loads(json.dumps(asdict(record))), "calls")


def _check_files(files: Mapping[str, str], misfit: Callable[[str, str], Exception]) -> None:
    """Only paths that stay below the root under which they will be written for reading."""
    if len(files) > MAX_FILES:
        raise misfit("files", f"has {len(files)} entries; at most {MAX_FILES} are read")
    for name in files:
        parts = name.split("/")
        if (
            not name.isprintable()
            or (SEPARATES and "\\" in name)
            or ":" in parts[0]
            or len(name.encode("utf-8", "replace")) > MAX_PATH
            or any(
                part in ("", ".", "..") or len(part.encode("utf-8", "replace")) > 255
                for part in parts
            )
        ):
            raise misfit("files", f"names {name[:80]!r}, which is no path below the machine's root")
        for parent in PurePosixPath(name).parents:
            if str(parent) in files:
                raise misfit("files", f"has {str(parent)[:80]!r} as a file and as a folder")
