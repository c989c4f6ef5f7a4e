"""What holds for every built-in benchmark. No framework is needed for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

from devbench.declare import Benchmark
from devbench.errors import NothingMeasured, UsageError
from devbench.model import ParamValue, Target, format_params
from devbench.plan import Pattern, expand, make_cases, read_value
from devbench.registry import load_catalog
from tests.helpers import DevBench
from tests.suites.page import PAGE, first_sentence, load_figures, page

CATALOG: Final = load_catalog()
BENCHMARKS: Final = [pytest.param(one, id=one.name) for one in CATALOG.benchmarks.values()]
TARGETS: Final = (Target("torch", ("cpu",)), Target("tensorflow", ("CPU:0",)))

#: Benchmarks whose results nothing checks, each with the reason.
UNCHECKED: Final[dict[str, str]] = {}
#: Benchmarks with more cases under --quick than others may have.
LONGER_QUICK: Final[dict[str, str]] = {}
ONE_FRAMEWORK: Final = {
    "data_parallel_ddp": "torch's own DistributedDataParallel",
    "data_parallel_dp": "torch's own nn.DataParallel",
    "data_parallel_mirrored": "TensorFlow's own MirroredStrategy",
}
WITHOUT_FOOTPRINT: Final = {
    "inference_largest_batch": "its batch is found when it runs, by the memory that there is",
}
#: Axes of whole numbers that may be zero.
MAY_BE_ZERO: Final = {("input_pipeline", "workers"): "a loader without worker processes"}


def points(benchmark: Benchmark) -> Iterator[dict[str, ParamValue]]:
    """Of both sweeps."""
    for quick in (False, True):
        yield from expand(benchmark, Pattern.parse(benchmark.name), {}, quick)


def test_the_fifteen_suites_are_there_and_none_is_broken() -> None:
    assert not CATALOG.broken
    assert set(CATALOG.suites) == {
        *(
            "matmul",
            "tensor_ops",
            "autograd",
            "mlp",
            "cnn",
            "transfer_learning",
            "attention",
            "rnn",
        ),
        *("transfer", "input_pipeline", "training", "checkpoint", "data_parallel", "inference"),
        "compile",
    }


def test_what_is_not_checked_is_on_the_list() -> None:
    unchecked = {one.name for one in CATALOG.benchmarks.values() if one.reference_kind is None}
    assert unchecked == set(UNCHECKED)


def test_what_is_for_one_framework_only_is_on_the_list() -> None:
    both = ("tensorflow", "torch")
    alone = {one.name for one in CATALOG.benchmarks.values() if one.builders != both}
    assert alone == set(ONE_FRAMEWORK)


@pytest.mark.parametrize("declared", BENCHMARKS)
def test_the_quick_sweep_is_short_in_each_framework(declared: Benchmark) -> None:
    for target in TARGETS:
        if target.framework not in declared.builders:
            continue
        cases = make_cases([(declared, Pattern.parse(declared.name))], [target], {}, quick=True)
        most = len(cases) if declared.name in LONGER_QUICK else 6
        assert 1 <= len(cases) <= most, [case.id for case in cases]


@pytest.mark.parametrize("declared", BENCHMARKS)
def test_the_work_of_every_point_is_possible_and_its_memory_is_declared(
    declared: Benchmark,
) -> None:
    for params in points(declared):
        work = declared.work(params)  # raises where it is not
        assert (work.footprint is None) == (declared.name in WITHOUT_FOOTPRINT), params
        assert work.footprint is None or work.footprint > 0, params


@pytest.mark.parametrize("declared", BENCHMARKS)
def test_more_along_the_size_axis_is_more_work(declared: Benchmark) -> None:
    """Prediction and pruning go along it."""
    if declared.size is None:
        return
    series: dict[str, list[tuple[Any, float]]] = {}
    for params in points(declared):
        rest = {axis: value for axis, value in params.items() if axis != declared.size}
        work = declared.work(params)
        amount = next((one for one in (work.flops, work.bytes, work.footprint) if one), None)
        assert amount is not None, params
        series.setdefault(format_params(rest), []).append((params[declared.size], amount))
    for rest_of_it, found in series.items():
        amounts = [amount for _, amount in sorted(set(found))]
        assert amounts == sorted(set(amounts)), rest_of_it


@pytest.mark.parametrize("declared", BENCHMARKS)
def test_the_docstring_begins_with_a_sentence_that_stands_alone(declared: Benchmark) -> None:
    sentence = first_sentence(declared.doc)
    assert sentence.endswith((".", "?")), sentence
    assert 20 <= len(sentence) <= 120, sentence
    assert not re.match(r"(It|This|They|These|Here|The same)\b", sentence), sentence


@pytest.mark.parametrize("declared", BENCHMARKS)
def test_names_and_values_need_no_quoting_on_a_command_line(declared: Benchmark) -> None:
    words = [declared.name, declared.suite, *declared.axes]
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", word) for word in words), words
    for values in declared.axes.values():
        texts = [value for value in values if isinstance(value, str)]
        assert all(re.fullmatch(r"[A-Za-z0-9_]+", text) for text in texts), texts


@pytest.mark.parametrize("declared", BENCHMARKS)
def test_a_size_of_nothing_is_refused_by_the_name_of_its_axis(declared: Benchmark) -> None:
    for axis, values in declared.axes.items():
        if isinstance(values[0], str | bool) or (declared.name, axis) in MAY_BE_ZERO:
            continue
        with pytest.raises(UsageError, match=rf"{declared.name}'s axis '{axis}' must be positive"):
            read_value(declared, axis, "0")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mlp", "--param", "batch=0"], "mlp's axis 'batch' must be positive, not 0"),
        (["matmul", "--param", "dtype=float8"], "no value of matmul's axis 'dtype': 'float8'"),
        (["transpose", "--param", "n=1000"], "n must be a square, not 1000"),
    ],
)
def test_a_request_that_cannot_be_ends_with_2_and_says_why(
    words: list[str], said: str, devbench_cli: DevBench
) -> None:
    done = devbench_cli("run", *words, "--quick", "--framework", "torch")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_framework_without_a_builder_has_nothing_to_measure() -> None:
    mirrored = CATALOG.benchmarks["data_parallel_mirrored"]
    with pytest.raises(NothingMeasured):
        make_cases([(mirrored, Pattern.parse(mirrored.name))], TARGETS[:1], {}, quick=True)


def test_the_page_says_what_the_declarations_say() -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert written == page(CATALOG, load_figures()), "run `make docs`"
    for benchmark in CATALOG.benchmarks.values():
        _, found, section = written.partition(f"\n### {benchmark.name}\n")
        assert found, benchmark.name
        section = re.split(r"^##", section, maxsplit=1, flags=re.MULTILINE)[0]
        listed = re.findall(r"^\| `(\w+)`", section, re.MULTILINE)
        assert listed == list(benchmark.axes), benchmark.name
        assert first_sentence(benchmark.doc) in " ".join(section.split())


def test_the_readme_of_the_suites_lists_each_of_them_once() -> None:
    text = (PAGE.parents[1] / "suites" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[`(\w+)`\]\(\.\./docs/suites\.md#suite-(\w+)\)", text, re.MULTILINE)
    assert sorted(listed) == sorted((name, name) for name in CATALOG.suites)
