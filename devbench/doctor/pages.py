"""The documentation page of each id, made of ``table.toml``.

``python -m devbench.doctor.pages docs/doctor`` writes them all; a test holds them against it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from devbench.doctor.table import CHECKS, words
from devbench.errors import UsageError, unknown

_FAMILIES: Final = {
    "D": "why a GPU is not used",
    "S": "why it is slow",
    "H": "whether it can be trusted",
}


def page(id: str) -> str:
    """The page in Markdown. Raises UsageError for an id that there is not."""
    table = words()
    if id not in table:
        raise UsageError(unknown("check", id, table))
    told = table[id]
    link = next(check.link for check in CHECKS if check.id == id)
    place = f"\n\nIt breaks the chain at the link *{link}*." if link else ""
    sources = "".join(f"- <{source}>\n" for source in told.sources)
    return (
        f"# {id}: {told.title}\n\n"
        f"One of the checks of `devbench doctor`: {_FAMILIES[id[0]]}.{place}\n\n"
        f"## What it means\n\n{told.means}\n\n"
        f"## What is read\n\n{told.reads}\n\n"
        f"## What mends it\n\n{told.mends} The finding gives the command for the system, installer and "
        "container at hand.\n" + (f"\n## Sources\n\n{sources}" if sources else "")
    )


def pages() -> Mapping[str, str]:
    """File name → page, with the list of all."""
    found = {f"{id}.md": page(id) for id in words()}
    rows = "".join(f"| [{id}]({id}.md) | {told.title} |\n" for id, told in words().items())
    found["README.md"] = (
        "# The checks of `devbench doctor`\n\n"
        "Made by `python -m devbench.doctor.pages docs/doctor`. D: why a GPU is not used; S: why it is "
        f"slow; H: whether it can be trusted.\n\n| id | what is wrong |\n| --- | --- |\n{rows}"
    )
    return found


def write(folder: Path) -> None:
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
