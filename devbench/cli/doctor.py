"""``devbench doctor``: why a GPU is not used, why it is slow, whether it can be trusted."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from devbench.cli.common import JsonOption, console, print_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from devbench.doctor import Diagnosis, Finding
    from devbench.doctor.records import Chain

app = typer.Typer(
    help="Say why a GPU is not used, why it is slow, and whether it can be trusted.",
    invoke_without_command=True,
    rich_markup_mode=None,
)

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_INDENT = 14


@app.callback()
def doctor(
    context: typer.Context,
    json: JsonOption = False,
    sarif: Annotated[
        bool, typer.Option("--sarif", help="Print the findings as SARIF 2.1.0 instead.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings too.")] = False,
    save: Annotated[
        str | None,
        typer.Option("--save", metavar="FILE", help="Write the recorded machine to this file."),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FILE", help="Judge a recorded machine instead of this one."
        ),
    ] = None,
    redact: Annotated[
        bool,
        typer.Option(
            "--redact", help="Take out names, UUIDs, serial numbers, addresses and home folders."
        ),
    ] = False,
) -> None:
    """Say why a GPU is not used, why it is slow, and whether it can be trusted.

    Exits with 1 when an error is found.
    """
    if context.invoked_subcommand is not None:
        return
    from contextlib import ExitStack

    from devbench.doctor import capture, diagnose, dump, load
    from devbench.doctor.bundle import parse
    from devbench.doctor.records import to_json
    from devbench.doctor.sarif import to_sarif
    from devbench.errors import UsageError
    from devbench.redaction import names_here

    if json and sarif:
        raise UsageError("--json and --sarif are two forms of one answer; choose one")
    with ExitStack() as stack:
        write = None
        if save is not None:
            from devbench.store.files import reserve

            write = stack.enter_context(reserve(save))  # before anything slow
        recording = capture() if from_ is None else load(from_)
        names = names_here() if redact and from_ is None else ()
        text = dump(recording, redacted=redact, names=names) if write or redact else ""
        if redact:  # what is shown is redacted too
            recording = parse(text, "the redacted recording")
        if write is not None:
            write(text)
    diagnosis = diagnose(recording)
    if sarif:
        print_json(to_sarif(diagnosis))
    elif json:
        print_json(to_json(diagnosis))
    else:
        _print(console(), diagnosis)
    sys.exit(diagnosis.exit_code(strict))


@app.command("diff")
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A recorded machine.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    json: JsonOption = False,
) -> None:
    """Tell what differs between two recorded machines."""
    from devbench.cli.table import print_table
    from devbench.doctor import load
    from devbench.doctor.diff import differences, to_json

    found = differences(load(first), load(second))
    if json:
        print_json(to_json(found))
    elif not found:
        print("Nothing differs.")
    else:
        rows = [(one.what, _value(one.first), _value(one.second)) for one in found]
        print_table(("what", first, second), rows)


@app.command("explain")
def explain(
    id: Annotated[str, typer.Argument(metavar="ID", help="The id of a finding, such as D01.")],
) -> None:
    """Print the documentation page of a finding's id."""
    from devbench.doctor.pages import page

    print(page(id.upper()), end="")


def _value(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        return " ".join(f"{name}={_value(item)}" for name, item in value.items())
    return ", ".join(map(_value, value)) if isinstance(value, list | tuple) else str(value)


def _print(out: Console, diagnosis: Diagnosis) -> None:
    for sentence in diagnosis.summary:
        _wrapped(out, "", sentence, 0)
    _print_chains(out, diagnosis)
    for finding in diagnosis.findings:
        out.print()
        _print_finding(out, finding)
    _print_unchecked(out, diagnosis)
    out.print()
    counts = diagnosis.counts()
    if not diagnosis.findings:
        out.print("No fault found.")
    else:
        errors, warnings, info = counts["error"], counts["warning"], counts["info"]
        _wrapped(
            out,
            "",
            f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}, "
            f"{info} for information. More on an id: devbench doctor explain {diagnosis.findings[0].id}",
            0,
        )


def _print_finding(out: Console, finding: Finding) -> None:
    from rich.text import Text

    from devbench.cli.table import printable

    head = Text(f"{finding.severity:<8}", style=_STYLES[finding.severity])
    head.append(f" {finding.id}  ", style="bold")
    _wrapped(out, head, finding.says, _INDENT)
    gpus = ", ".join(finding.gpus) if len(finding.gpus) < 3 else f"{len(finding.gpus)} GPUs"
    about = " · ".join(filter(None, (finding.framework, gpus)))
    if about:
        _wrapped(out, "", about, _INDENT)
    if finding.confidence != "certain":
        _labelled(out, "sure", finding.confidence)
    for position, evidence in enumerate(finding.evidence):
        _labelled(out, "seen" if position == 0 else "", evidence)
    for position, fix in enumerate(finding.fixes):
        _labelled(out, "do" if position == 0 else "", fix.text)
        for command in fix.commands:
            # Never wrapped: it is to be copied.
            out.print(Text(" " * (_INDENT + 6) + printable(command), style="green"), soft_wrap=True)
    _labelled(out, "page", finding.page)


def _labelled(out: Console, label: str, text: str) -> None:
    from rich.text import Text

    _wrapped(out, Text(f"{'':{_INDENT}}{label:<6}", style="dim"), text, _INDENT + 6)


def _wrapped(out: Console, head: object, text: str, indent: int) -> None:
    """The text beside its head, and below its own beginning where it goes on."""
    import textwrap

    from rich.text import Text

    from devbench.cli.table import printable

    first = head if isinstance(head, Text) else Text(str(head).ljust(indent))
    lines = textwrap.wrap(printable(text), max(20, out.width - indent), break_on_hyphens=False) or [
        ""
    ]
    for position, line in enumerate(lines):
        out.print((first if position == 0 else Text(" " * indent)) + Text(line), soft_wrap=True)


def _print_chains(out: Console, diagnosis: Diagnosis) -> None:
    """Link by link, the frameworks side by side, for the GPUs that one of them does not use."""
    by_gpu: dict[str, list[Chain]] = {}
    for chain in diagnosis.chains:
        by_gpu.setdefault(chain.gpu, []).append(chain)
    alike: dict[tuple[str, ...], list[list[Chain]]] = {}
    for chains in by_gpu.values():
        if not all(chain.works for chain in chains):
            alike.setdefault(tuple(map(_fate, chains)), []).append(chains)
    for first, *others in alike.values():
        out.print()
        out.print(_chain_table(first))
        if others:
            out.print(f"  and {len(others)} more like it")


def _fate(chain: Chain) -> str:
    """The same for GPUs that fare alike."""
    return "works" if chain.works else f"{chain.broken}"


def _chain_table(chains: Iterable[Chain]) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from devbench.cli.table import printable

    chains = list(chains)
    table = Table(
        box=box.SIMPLE_HEAD,
        title=Text(printable(f"{chains[0].gpu_name}  {chains[0].gpu}"), style="bold"),
        title_justify="left",
    )
    table.add_column("link", no_wrap=True)
    for chain in chains:
        table.add_column(Text(printable(chain.framework)), overflow="fold")
    marks = {"holds": "", "broken": "✗ ", "unknown": "? ", "not reached": "·"}
    styles = {"holds": "default", "broken": "bold red", "unknown": "yellow", "not reached": "dim"}
    for row in zip(*(chain.links for chain in chains), strict=True):
        cells = [
            Text(marks[link.state] + printable(link.because), style=styles[link.state])
            for link in row
        ]
        table.add_row(Text(row[0].name), *cells)
    return table


def _print_unchecked(out: Console, diagnosis: Diagnosis) -> None:
    """Ids with one reason in common stand together."""
    reasons: dict[str, list[str]] = {}
    for one in diagnosis.unchecked:
        reasons.setdefault(one.reason, []).append(one.id)
    if reasons:
        out.print()
        out.print("Could not check")
    for reason, ids in reasons.items():
        _wrapped(out, "", f"{', '.join(dict.fromkeys(ids))}: {reason}", 2)
