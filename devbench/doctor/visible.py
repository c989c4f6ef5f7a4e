"""How CUDA reads CUDA_VISIBLE_DEVICES.

https://docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/environment-variables.html: entries
are indices, or beginnings of UUIDs that fit one device only; the first entry that names no device hides
itself and all that follow; a device that is named twice leaves none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: Of the entries that are not read, so many are named.
_NAMED = 16


@dataclass(frozen=True, slots=True)
class Visible:
    """indices: of the devices that stay visible, in the order in which frameworks number them.

    culprit: the first entry that names no device, None where every one does. hidden: the entries after
    it, which name devices and are hidden all the same. says: how the value is read, in words.
    """

    indices: tuple[int, ...]
    culprit: str | None
    hidden: tuple[str, ...]
    says: str


def parse(value: str, uuids: Sequence[str | None], slices: Sequence[str] = ()) -> Visible:
    """The value read as on a machine with GPUs of these UUIDs, in this order.

    slices: UUIDs of MIG slices, which are visible devices too; they have no index of their own and
    count on after the GPUs.
    """
    known = [*uuids, *slices]
    entries = [entry.strip() for entry in value.split(",")]
    if value.strip() == "":
        return Visible((), "", (), "it is empty, which hides every GPU")
    found: list[int] = []
    for position, entry in enumerate(entries):
        index = _device(entry, known, len(uuids))
        rest = tuple(entries[position + 1 :])
        if index is None:
            return Visible(tuple(found), entry, rest, _stopped(entry, rest, found, len(uuids)))
        if index in found:
            return Visible((), entry, (), f"{entry!r} names a device twice, which hides every GPU")
        found.append(index)
    return Visible(tuple(found), None, (), f"it names {_count(len(found), 'device')}")


def _device(entry: str, known: Sequence[str | None], gpus: int) -> int | None:
    if re.fullmatch(r"[0-9]{1,6}", entry):
        return int(entry) if int(entry) < gpus else None
    if not entry.upper().startswith(("GPU-", "MIG-")):
        return None
    fits = [
        index
        for index, uuid in enumerate(known)
        if uuid is not None and uuid.lower().startswith(entry.lower())
    ]
    return fits[0] if len(fits) == 1 else None


def _stopped(entry: str, rest: tuple[str, ...], found: Sequence[int], gpus: int) -> str:
    why = (
        "the list ends with a comma"
        if entry == ""
        else f"{entry!r} is no index below {gpus} and no UUID of this machine"
    )
    before = (
        f"{_count(len(found), 'device')} before it stay visible" if found else "it hides every GPU"
    )
    named = ", ".join(map(repr, rest[:_NAMED]))
    more = f" and {len(rest) - _NAMED} more" if len(rest) > _NAMED else ""
    verb = "is" if len(rest) == 1 else "are"
    after = f"; {named}{more} after it {verb} not read" if rest else ""
    return f"{why}: {before}{after}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
