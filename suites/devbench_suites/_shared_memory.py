"""Is there room in /dev/shm? torch's worker processes hand their batches over through it.

Without the room a worker dies in the middle of an epoch. Containers get 64 MB of it unless told
otherwise.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

FOLDER: Final = Path("/dev/shm")


def shortage(needed: int, folder: Path = FOLDER) -> str | None:
    """The sentence that says why `needed` bytes cannot be shared; None when they can."""
    if not folder.is_dir():
        return f"there is no {folder}, through which worker processes hand over their batches"
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return None
    return (
        f"{folder} has {free / 1e6:.3g} MB free and the queue of batches takes {needed / 1e6:.3g} MB: "
        "use smaller batches or fewer workers, or give a container more (docker run --shm-size)"
    )
