"""The size of the host's last-level cache, which decides what a cold start and a stream are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

#: Where the system does not tell: larger than the last-level cache of most desktop processors.
DEFAULT_BYTES: Final = 64 << 20


def last_level_cache(root: Path = Path("/")) -> int:
    """Bytes of the largest cache of the first CPU (Linux sysfs), or `DEFAULT_BYTES`."""
    sizes = []
    for file in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        match = re.fullmatch(r"(\d+)([KM])", file.read_text().strip())
        if match:
            sizes.append(int(match[1]) << {"K": 10, "M": 20}[match[2]])
    return max(sizes, default=DEFAULT_BYTES)
