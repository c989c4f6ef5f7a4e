"""Patterns written over a device's memory and read again.

Every word is written before any is read, so that what a faulty address line sends elsewhere is seen:
solid patterns show bits that stick, each word holding its own number shows words that share a place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from devbench.frameworks.probes import Words
from devbench.stress.arithmetic import Place
from devbench.stress.records import Outcome

#: (name, first word, step from word to word). The last one goes on from chunk to chunk.
PATTERNS: Final = (
    ("zeros", 0, 0),
    ("ones", -1, 0),
    ("0101", 0x5555555555555555, 0),
    ("1010", -0x5555555555555556, 0),
    ("own address", 0, 1),
)
CHUNK_BYTES: Final = 64 << 20
#: A pass over a chunk takes several arrays of its size.
TEMPORARIES: Final = 3


def memory_patterns(
    place: Place, goal_bytes: int, seconds: float, room: Callable[[], bool]
) -> Outcome:
    """All patterns over `goal_bytes`, or over as much of it as `seconds` suffice for.

    room: asked before each further chunk; False where others need the memory now.
    """
    count = max(1024, min(CHUNK_BYTES, goal_bytes) // 8)
    most = max(1, goal_bytes // (8 * count) - TEMPORARIES)
    held: list[Words] = []
    start = time.perf_counter()
    why = ""
    try:
        while len(held) < most:
            if held and not room():
                why = ", as the machine's memory got scarce"
                break
            chunk = place.probes.words(count)
            chunk.write(0, 1)
            chunk.wrong(0, 1)
            held.append(chunk)
            each_s = (time.perf_counter() - start) / len(held)
            if len(held) * each_s * (len(PATTERNS) + 1) >= seconds:
                why = f", what {seconds:.0f} s suffice for" if len(held) < most else ""
                break
    except Exception as error:
        if not place.framework.is_out_of_memory(error) or not held:
            raise
        held.pop()  # room for the temporaries of the others
        why = ", then memory ran out"
    size = 8 * count * len(held)
    for name, first, step in PATTERNS:
        for index, chunk in enumerate(held):
            chunk.write(first + step * index * count, step)
        for index, chunk in enumerate(held):
            if wrong := chunk.wrong(first + step * index * count, step):
                at = 8 * count * index / 2**20
                return Outcome(
                    "fault",
                    f"pattern {name}: {wrong} of {count:,} words read otherwise than they were written, "
                    f"in the chunk at {at:.0f} MiB of {size / 2**20:.0f}",
                    {"wrong_words": wrong, "tested_bytes": size},
                )
    return Outcome(
        "no fault found",
        f"{len(PATTERNS)} patterns over {size / 2**30:.2f} GiB, {size / goal_bytes:.0%} of what was to be "
        f"tested{why}",
        {"tested_bytes": size, "goal_bytes": goal_bytes},
    )
