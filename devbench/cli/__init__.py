"""The command line: a thin file a verb. Heavy libraries are imported inside the verbs."""

from __future__ import annotations

import os
import sys

import typer

import devbench
from devbench.cli import (
    ab,
    calibrate,
    compare,
    detect,
    doctor,
    history,
    list_,
    report,
    run,
    runs,
    selftest,
    show,
    stress,
    transfer,
)
from devbench.ending import ended_in_order
from devbench.errors import DevbenchError

app = typer.Typer(
    name="devbench",
    help="What devices this machine has, how fast each is, and how far the figures can be trusted.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        # To convert an option that was not given typer imports pydantic, unless its value is a bool
        # already: a third of what `devbench detect` would take.
        "default_map": dict.fromkeys(("help", "install_completion", "show_completion"), False)
        | {"detect": {"help": False}},
    },
)
app.command("detect")(detect.detect)
app.add_typer(
    doctor.app,
    name="doctor",
    short_help="Say why a GPU is not used, is slow, or cannot be trusted.",
)
app.command("list")(list_.list_)
app.command("run")(run.run)
app.command("runs")(runs.runs)
app.command("show")(show.show)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("ab", short_help="Tell whether HEAD is slower than BASE, timed in turn.")(ab.ab)
app.command("calibrate", short_help="Tell how small a slowdown this machine can show.")(
    calibrate.calibrate
)
app.command("history")(history.history)
app.command("selftest")(selftest.selftest)
app.command("stress", short_help="Look for faults of each device, in results and in speed.")(
    stress.stress
)
app.command("export")(transfer.export)
app.command("import")(transfer.import_)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"devbench {devbench.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


def main() -> None:
    """Entry point of the program. An error on purpose is one line on standard error, no traceback."""
    try:
        try:
            with ended_in_order():
                app()
        except DevbenchError as error:
            print(f"devbench: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
    except SystemExit as ended:
        if not _reader_left(ended):
            raise
        # As in `devbench show | head`. Python would complain at exit of what it could not write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _reader_left(ended: SystemExit) -> bool:
    """Whether nobody reads standard output any more. typer makes an exit with 1 of that, which is a
    regression's; a short answer has not even been written yet."""
    if isinstance(ended.__context__, BrokenPipeError):
        return True
    try:
        print(end="", flush=True)
    except BrokenPipeError:
        return True
    return False
