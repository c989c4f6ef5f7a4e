"""Children that work side by side and then measure one after the other.

Thread pools wait by spinning: a product of two threads on two CPUs was 30 times slower while another
framework was importing. So each child first waits until all others are done or dead, then for its turn.
Both are pipes: they need no clock and no polling, and a child that dies lets go of them.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: Seconds that a child waits for the others before it goes without a measurement.
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Turns:
    """Four ends of two pipes. All children hold `busy` open while they work; `turn` holds one byte,
    which belongs to who measures."""

    quiet: int
    busy: int
    turn: int
    done: int

    @classmethod
    def start(cls) -> Turns:
        quiet, busy = os.pipe()
        turn, done = os.pipe()
        os.write(done, b"1")
        return cls(quiet, busy, turn, done)

    @classmethod
    def of_child(cls, text: str) -> Turns:
        return cls(*map(int, text.split(",")))

    def __str__(self) -> str:
        return ",".join(map(str, self.descriptors()))

    def descriptors(self) -> tuple[int, int, int, int]:
        return self.quiet, self.busy, self.turn, self.done

    def close(self) -> None:
        """The parent's ends, once every child has its own."""
        for descriptor in self.descriptors():
            os.close(descriptor)

    @contextmanager
    def take(self) -> Iterator[bool]:
        """Whether it is this child's turn to measure; False where the others took too long."""
        os.close(self.busy)
        # Nothing is ever written there: it can be read when the last child has closed its end.
        if not _readable(self.quiet) or not _readable(self.turn):
            yield False
            return
        os.read(self.turn, 1)
        try:
            yield True
        finally:
            os.write(self.done, b"1")


def _readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], PATIENCE_S)[0])
