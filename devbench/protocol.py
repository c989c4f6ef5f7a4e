"""The messages between the runner and its workers: one JSON object a line, versioned.

=============  =============================================================  ==================
runner sends   with                                                          worker answers
=============  =============================================================  ==================
start          target, threads                                               ready, or failed
describe       framework, threads                                            described
measure        source, benchmark, params, seed, limits, scratch, kept, check  doing …, measured
hold           as measure, roots, tops                                       doing …, held
burst          seconds, samples (at least), yardstick (yes or no)            taken
drop           nothing                                                       dropped
ceilings       dtypes, seconds (of a probe)                                  ceilings
reference      source, benchmark, params, seed, path, kept                   referenced
selftest       framework, threads, seconds (of a repetition)                 readings …, tested
(end of file)                                                                exits
=============  =============================================================  ==================

``hold`` builds and warms up a case and keeps it; each ``burst`` then takes some samples of it, until
``drop``. So two workers can be timed in turn. ``held`` says which ``files`` were loaded from below
``roots`` and, apart from these, which ``strays`` from below ``tops``. With ``repeat`` so many steps count
as one, by which a step of known extra work is made.

``scratch`` is a folder for the case's files, ``kept`` one where inputs stay from visit to visit, and
``check`` the file of the expected values. ``referenced`` says whether it was memory that was lacking.

``doing`` tells the phase (build, check, warm-up, timing, closing) for the progress display.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final, TextIO, TypeAlias

from devbench.errors import DevbenchError

VERSION: Final = 1

Message: TypeAlias = dict[str, Any]


class ProtocolError(DevbenchError):
    """The other side speaks another version, or something that is no message."""


def claim_stdout() -> TextIO:
    """Keep standard output for messages and send what anybody prints to standard error instead.

    Frameworks and their C++ libraries write to file descriptor 1 at will, so it is duplicated first
    and then replaced.
    """
    private = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return private


def encode(kind: str, **fields: Any) -> str:
    return json.dumps({"v": VERSION, "type": kind, **fields}, separators=(",", ":")) + "\n"


def decode(line: str) -> Message:
    """Raises ProtocolError for anything that is not a message of this version."""
    try:
        message = json.loads(line)
    except ValueError:
        raise ProtocolError(f"not a message: {line[:80]!r}") from None
    if not isinstance(message, dict) or "type" not in message:
        raise ProtocolError(f"not a message: {line[:80]!r}")
    if message.get("v") != VERSION:
        raise ProtocolError(
            f"the worker speaks protocol version {message.get('v')!r} and this devbench speaks {VERSION}; "
            "install the same devbench on both sides"
        )
    return message
