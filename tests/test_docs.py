"""The pages say what the code says: tables, files, links, commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

import devbench
from devbench.cli import app
from devbench.model import COLUMNS, QUALITY_REASONS, REASONS
from devbench.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = (*sorted(ROOT.glob("*.md")), ROOT / "suites" / "README.md")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PACKAGES = ("devbench", "suites/devbench_suites", "reports/devbench_reports")


def table(text: str, heading: str) -> list[tuple[str, ...]]:
    """The rows of the first table whose heading row begins with these cells."""
    _, found, rest = text.partition(f"\n| {heading} |")
    assert found, f"there is no table that begins with | {heading} |"
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    return [tuple(cell.strip().strip("`") for cell in line.strip("|").split("|")) for line in lines]


def as_table(rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"| `{name}` | {' | '.join(rest)} |" for name, *rest in rows)


@pytest.mark.parametrize(
    ("heading", "declared"),
    [
        ("column | unit | meaning", [(name, *told) for name, told in COLUMNS.items()]),
        ("reason | means", list(REASONS.items())),
        ("reason | said when", list(QUALITY_REASONS.items())),
    ],
)
def test_a_table_in_the_architecture_lists_what_the_model_declares_in_its_order(
    heading: str, declared: list[tuple[str, ...]]
) -> None:
    assert table(ARCHITECTURE, heading) == declared, f"it should read\n{as_table(declared)}"


def shown(value: Any) -> str:
    return "none" if value is None else "no" if value is False else f"{value:g}"


def test_the_settings_in_the_architecture_are_those_of_the_code() -> None:
    full, quick = Settings().to_json(), Settings.for_quick().to_json()
    told = {row[0]: row[1:3] for row in table(ARCHITECTURE, "setting | default | `--quick`")}
    assert told == {
        name: (shown(full[name]), shown(quick[name])) for name in full if name != "quick"
    }


def test_every_schema_of_an_answer_stands_in_the_architecture() -> None:
    code = (
        file.read_text(encoding="utf-8")
        for part in PACKAGES
        for file in (ROOT / part).rglob("*.py")
    )
    schemas = {name for text in code for name in re.findall(r'"(devbench\.\w+/\d+)"', text)}
    assert {name for name, _ in table(ARCHITECTURE, "schema | from")} == schemas


def sections(text: str) -> dict[str, str]:
    """Text below each heading of the third level."""
    parts = re.split(r"^##+ (.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(
    "folder",
    [
        str(folder.relative_to(ROOT))
        for package in PACKAGES
        for folder in (ROOT / package, *sorted((ROOT / package).iterdir()))
        if (folder / "__init__.py").is_file()
    ],
)
def test_the_house_lists_every_file_of_a_package_and_no_other(folder: str) -> None:
    listed = {name for name, _ in table(sections(ARCHITECTURE)[f"{folder}/"], "file | what it is")}
    assert listed == {file.name for file in (ROOT / folder).glob("*.py")} - {"__init__.py"}


def prose(text: str) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    text = prose(page.read_text(encoding="utf-8"))
    links = [
        *re.findall(r"\]\(([^)\s]+)\)", text),
        *re.findall(r"(?:src|srcset|href)=\"([^\"]+)\"", text),
    ]
    assert links
    for link in links:
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        goal = page.parent / path if path else page
        assert goal.exists(), f"{link}: there is no {goal.relative_to(ROOT)}"
        if anchor:
            assert anchor in anchors(goal), f"{link}: there is no such heading"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command line in a page: in code blocks, and quoted in a sentence."""
    lines = [line for block in blocks(text, "") for line in block.splitlines()]
    for line in (*lines, *re.findall(r"`([^`\n]+)`", prose(text))):
        if re.match(r"(devbench|make) [a-z]", line):
            yield shlex.split(line, comments=True)


def verbs() -> dict[str, set[str]]:
    """Each verb of the program with the names of its options."""
    program = get_command(app)
    assert isinstance(program, TyperGroup)
    return {
        verb: {name for option in command.params for name in option.opts} | {"--help"}
        for verb, command in program.commands.items()
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_pages_exist_with_their_options(page: Path) -> None:
    known = verbs()
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for program, verb, *words in commands(page.read_text(encoding="utf-8")):
        if program == "make":
            assert verb in targets, f"make {verb}"
            continue
        assert verb in known, f"devbench {verb}"
        for word in words:
            if word.startswith("-"):
                assert word.partition("=")[0] in known[verb], f"devbench {verb} {word}"


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md"])
def test_every_verb_stands_in_the_page(page: str) -> None:
    named = {words[1] for words in commands((ROOT / page).read_text(encoding="utf-8"))}
    assert named >= set(verbs())


def test_python_in_the_readme_uses_names_that_devbench_has() -> None:
    code = "".join(blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python"))
    names = set(re.findall(r"\bdevbench\.(\w+)", code))
    assert names >= {"run", "detect", "time"}
    assert names <= set(devbench.__all__)
