"""Terminal and Markdown: within 80 columns, every doubt and every missing case named, nothing escapes."""

from __future__ import annotations

import re

import pytest

from devbench_reports.markdown import escape, to_markdown
from devbench_reports.terminal import to_text
from tests.reports import factory


@pytest.mark.parametrize("rounds", [1, 5])
def test_text_stays_within_80_columns(rounds: int) -> None:
    rows = [*factory.sweep(rounds=rounds), *factory.troubled()]
    text = to_text(factory.run(rows), rows, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text


def test_text_shows_each_measured_row_once_with_its_figures() -> None:
    rows = factory.sweep()
    text = to_text(factory.run(rows), rows)
    assert len(re.findall(r"torch:cuda:0 .*±2.0 %", text)) == 20
    assert re.search(r"n=1024 +torch:cpu +10\.2 ms +±2\.0 % +210 GFLOP/s", text)
    assert "~" not in text


def test_text_and_markdown_end_each_benchmark_with_who_overtakes_whom() -> None:
    rows = factory.sweep()
    text = to_text(factory.run(rows), rows, width=120)
    told = r"forward +tensorflow:GPU:0 +tensorflow:CPU:0 +faster from batch ≈ 89.1 on \(32 to 256\)"
    assert re.search(told, text)
    assert "moving the data too" in text
    markdown = to_markdown(factory.run(rows), rows)
    assert (
        "| forward | tensorflow:GPU:0 | tensorflow:CPU:0 | faster from batch ≈ 89.1 on (32 to 256) | ?? |"
        in markdown
    )


def test_between_two_thread_counts_nothing_is_said_of_moving_the_data() -> None:
    rows = [
        factory.result(
            target=f"torch:cpu;threads={threads}", threads=threads, params={"n": n}, median=time
        )
        for n, one, two in ((64, 0.01, 0.02), (256, 0.04, 0.02))
        for threads, time in ((1, one), (2, two))
    ]
    text = to_text(factory.run(rows), rows)
    assert "faster from n ≈ 128 on (64 to 256)" in text
    assert "moving the data" not in text
    assert "| the same: one memory |" in to_markdown(factory.run(rows), rows)


def test_text_marks_the_spread_of_single_rounds_as_no_interval() -> None:
    rows = [factory.result(rounds=1)]
    text = to_text(factory.run(rows), rows)
    assert "~4.0 %" in text
    assert "±4.0" not in text
    assert "~ spread inside the one process" in text
    assert "no interval" in text


def test_text_notes_say_why_a_row_is_doubted_or_missing() -> None:
    rows = factory.troubled()
    text = to_text(factory.run(rows), rows)
    assert re.search(r"n=128 +torch:cpu .* \?1,2$", text, re.MULTILINE)
    assert re.search(r"torch:cuda:0 .* !3$", text, re.MULTILINE)
    assert re.search(r"numerics: .*\b1 mismatch", text)
    assert "[1] wide-interval: ±30% over 5 rounds" in text
    assert "[3] numerics-mismatch: 0.02 at [3, 4], tolerance 1e-05" in text
    for status in ("skipped", "oom", "failed", "crashed", "timeout"):
        assert re.search(rf"^  {status} matmul\[", text, re.MULTILINE), status


def test_text_tells_a_note_once_where_only_its_figures_differ() -> None:
    rows = [
        factory.result(
            params={"n": n}, quality="suspect", quality_reasons=(f"steal: {n}.0% of it",)
        )
        for n in (3, 4, 9)
    ]
    text = to_text(factory.run(rows), rows)
    assert "[1] steal: 3.0 to 9.0% of it" in text
    assert "[2]" not in text
    assert len(re.findall(r"torch:cpu .* \?1$", text, re.MULTILINE)) == 3


def test_text_merges_cases_that_were_skipped_for_alike_reasons() -> None:
    rows = [
        factory.result(params={"n": n}, median=None, status="skipped", reason=f"too-slow: {n} s")
        for n in (20, 30)
    ]
    text = to_text(factory.run(rows), rows)
    assert "skipped matmul[n=20]@torch:cpu, matmul[n=30]@torch:cpu: too-slow: 20 to 30 s" in text


PHASES = ("forward", "forward_backward", "train_step")


@pytest.mark.parametrize("sizes", [(32,), (32, 1048576)])
@pytest.mark.parametrize("asked", ["", ";threads=16"])
def test_text_at_80_columns_breaks_no_name_and_says_each_case_once(
    sizes: tuple[int, ...], asked: str
) -> None:
    rows = [
        factory.result(
            name,
            {"sequence": n, "kind": "written_out", "phase": phase},
            benchmark="attention",
            target=f"{name}{asked}",
            items=n,
            rounds=1,
            quality="suspect",
            quality_reasons=("not-steady: +3% more", "steal: 3% of it", "few-samples: 3"),
        )
        for phase in PHASES
        for n in sizes
        for name in ("torch:cpu", "tensorflow:CPU:0")
    ]
    run = factory.run(rows, settings={"benchmarks": {"attention": {"size": "sequence"}}})
    lines = to_text(run, rows, width=80).splitlines()
    assert max(map(len, lines)) <= 80
    table = lines[: next(place for place, line in enumerate(lines) if "[1]" in line)]
    for name in ("torch:cpu", "tensorflow:CPU:0"):
        figures = [line for line in table if f"{name}{asked} " in line and "items/s" in line]
        assert len(figures) == len(PHASES) * len(sizes), "one line a row, with its target unbroken"
    for phase in PHASES:
        said = [line for line in table if re.search(rf"\b{phase}\b", line)]
        assert len(said) <= len(sizes), "a case is said once"
        assert said


def test_text_has_no_line_of_its_own_for_cases_that_differ_in_no_size() -> None:
    rows = [
        factory.result(name, {"n": 64, "op": op})
        for op in ("chain", "density")
        for name in ("torch:cpu", "tensorflow:CPU:0")
    ]
    text = to_text(factory.run(rows), rows, width=80)
    assert re.search(r"^  chain +torch:cpu +10\.0 ms", text, re.MULTILINE)
    assert not re.search(r"^  chain$", text, re.MULTILINE)


def test_text_breaks_long_names_at_their_commas() -> None:
    params = {"dtype": "float32", "kind": "written_out", "phase": "forward_backward", "n": 512}
    name = ",".join(f"{axis}={value}" for axis, value in params.items())
    reason = f"error: nothing came of attention[{name}]@tensorflow:CPU:0 at all"
    rows = [factory.result(median=None, status="failed", reason=reason)]
    text = to_text(factory.run(rows), rows, width=80)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    for word in ("phase=forward_backward", "@tensorflow:CPU:0", "attention[dtype=float32"):
        assert word in text


def test_text_ends_no_line_between_a_figure_and_its_unit() -> None:
    metrics = {f"part_{letter}_s": 0.0123 for letter in "abcdefghijkl"}
    rows = [factory.result(metrics=metrics)]
    text = to_text(factory.run(rows), rows, width=80)
    assert text.count("12.3 ms") == len(metrics)


def test_text_says_no_mode_where_each_case_says_its_own() -> None:
    rows = [
        factory.result(params={"n": 1, "mode": mode}, mode=mode) for mode in ("eager", "compiled")
    ]
    text = to_text(factory.run(rows), rows)
    assert "mode: " not in text
    assert "numerics: 2 match" in text


def test_text_of_an_empty_run_says_so() -> None:
    assert to_text(factory.run([]), []) == "Nothing was measured that a figure could rest on.\n"


def test_text_has_colours_only_when_asked() -> None:
    rows = factory.troubled()
    assert "\x1b[" in to_text(factory.run(rows), rows, color=True)


@pytest.mark.parametrize("name", factory.HOSTILE)
def test_text_shows_hostile_names_without_breaking_the_width(name: str) -> None:
    rows = [factory.result(suite=name, benchmark=name, params={"phase": name, "n": 1})]
    text = to_text(factory.run(rows), rows, width=80)
    assert name.split()[0][:20] in text
    assert "10.0 ms" in text


STEERING = "\x1b]2;x\x1b\\\x9b31m"


@pytest.mark.parametrize("color", [False, True])
def test_text_of_a_stranger_cannot_steer_the_terminal(color: bool) -> None:
    environment = factory.environment()
    environment["machine"]["gpus"][0]["name"] = f"GPU {STEERING}"
    environment["machine"]["devices"] = [
        {**device, "name": f"GPU {STEERING}"}
        for device in environment["machine"]["devices"]
        if device["physical"] == "cpu" or device["framework"] == "torch"
    ]
    doubt = f"steal: {STEERING}"
    rows = [
        factory.result(metrics={"scaling": STEERING}, quality="suspect", quality_reasons=(doubt,)),
        factory.result(params={STEERING: "\x1b[31mred"}),
        factory.result(
            params={"n": 2}, median=None, status="failed", reason=f"error: {STEERING * 12}"
        ),
    ]
    run = factory.run(rows, environment=environment)
    text = to_text(run, rows, width=80, color=color)
    assert ("\x1b[" in text) is color, "colours of our own stay"
    own = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", own)
    shown = "\ufffd]2;x\ufffd\\\ufffd31m"
    for where in (f"scaling {shown}", f"steal: {shown}", f"error: {shown}", f"GPU {shown}: tensor"):
        assert where in " ".join(own.split())
    assert "\ufffd[31mred" in own
    assert max(map(len, own.splitlines())) <= 80
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", to_markdown(run, rows))


def cells(line: str) -> list[str]:
    """The cells of a Markdown row as a reader sees them."""
    inner = re.split(r"(?<!\\)\|", line)[1:-1]
    plain = [re.sub(r"\\([\\`*\[\]|~$_])", r"\1", cell.strip()) for cell in inner]
    return [c.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for c in plain]


def test_markdown_table_reads_back_to_the_rows() -> None:
    rows = factory.sweep(names=["torch:cpu"])
    text = to_markdown(factory.run(rows), rows)
    table = [cells(line) for line in text.splitlines() if line.startswith("| ")]
    headings = [row for row in table if row[0] == "case"]
    body = [row for row in table if row[0] not in ("case", "---")]
    assert len(headings) == 3
    assert len(body) == len(rows)
    assert [
        "n=1024, dtype=float32", "torch:cpu", "10.2 ms", "±2.0 %", "210 GFLOP/s", "match", ""
    ] in body  # fmt: skip


@pytest.mark.parametrize("name", factory.HOSTILE)
def test_markdown_keeps_hostile_text_in_its_cell(name: str) -> None:
    rows = [factory.result(params={"phase": name}, quality_reasons=(f"not-steady: {name}",))]
    text = to_markdown(factory.run(rows, host=name, label=name), rows)
    assert "<" not in text
    assert not re.search(r"(?<!\\)`", text)
    (line,) = [line for line in text.splitlines() if line.startswith("| phase=")]
    row = cells(line)
    assert len(row) == 7
    assert row[0] == " ".join(f"phase={name}".split())


def test_markdown_lists_what_was_not_measured() -> None:
    rows = factory.troubled()
    text = to_markdown(factory.run(rows), rows)
    assert (
        r"- failed: matmul\[n=512,dtype=float16\]@tensorflow:CPU:0, error: ValueError: a &lt; b \| c"
        in text
    )


def test_markdown_of_an_empty_run_says_so() -> None:
    assert "Nothing was measured" in to_markdown(factory.run([]), [])


def test_markdown_escape_leaves_names_with_underscores_readable() -> None:
    assert escape("train_step") == "train_step"
    assert escape("_a_ *b*") == r"\_a\_ \*b\*"


def test_what_a_benchmark_adds_stands_under_its_table() -> None:
    rows = [factory.result(metrics={"compute_s": 0.0031, "scaling": "path only"})]
    assert "compute 3.10 ms · scaling path only" in to_text(factory.run(rows), rows)
