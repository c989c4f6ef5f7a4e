"""What can go wrong, as one tree.

::

    DevbenchError                 any answer that is a sentence for the person at the keyboard
    ├── UsageError                the request names something that is not there (exit 2)
    │   ├── DeclarationError      a suite declares something impossible; carries file and line
    │   ├── StoreError            a store that is no database, or of a newer version
    │   └── RunFileError          a run file that is truncated, foreign or of a newer version
    ├── NothingMeasured           the selection left nothing to measure (exit 3)
    ├── BudgetExhausted           the time budget ran out before anything finished (exit 124)
    └── Unsupported               raised by a builder: this device cannot do this case (a skipped row)
        └── DoesNotFit            raised by a builder: there is no room for it (a skipped row)

Each message says what was wrong and what would be right; the command line prints it without a
traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DevbenchError(Exception):
    """Base of all errors that devbench raises on purpose."""

    exit_code = 1


class UsageError(DevbenchError):
    """The request names something that does not exist or cannot be."""

    exit_code = 2


class DeclarationError(UsageError):
    """A benchmark's declaration is wrong. `where` reads ``file:line``."""

    def __init__(self, message: str, where: str | None = None) -> None:
        super().__init__(f"{where}: {message}" if where else message)


class StoreError(UsageError):
    """The results store cannot be read or written as one."""


class RunFileError(UsageError):
    """A file that should hold an exported run does not."""


class NothingMeasured(DevbenchError):
    """Nothing was left to measure. Never a success."""

    exit_code = 3


class BudgetExhausted(DevbenchError):
    """The time budget ran out before any measurement finished."""

    exit_code = 124


class Unsupported(DevbenchError):
    """Raised by a builder to say that this device cannot do this case: a skipped row, no failure."""

    reason = "unsupported"


class DoesNotFit(Unsupported):
    """The same for what the memory or the disk has no room for now."""

    reason = "does-not-fit"


def unknown(what: str, given: str, known: Iterable[str], hint: str = "") -> str:
    """The sentence for a name that is not known, with the closest matches.

    >>> unknown("suite", "matmull", ["matmul", "mlp"])
    "there is no suite 'matmull'; did you mean 'matmul'? Known: matmul, mlp"
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(given, names, n=3, cutoff=0.6)
    text = f"there is no {what} {given!r}"
    if close:
        text += "; did you mean " + " or ".join(repr(name) for name in close) + "?"
        text += f" Known: {', '.join(names)}" if len(names) <= 12 else ""
    elif names:
        text += f"; known: {', '.join(names)}"
    return text + (f". {hint}" if hint else "")
