from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devbench.declare import Benchmark, benchmark
from devbench.errors import NothingMeasured, UsageError
from devbench.model import Case, Device, Target, Work
from devbench.plan import (
    Pattern,
    choose,
    expand,
    find_targets,
    make_cases,
    order,
    parse_overrides,
    read_value,
    series,
)
from devbench.registry import Broken, Catalog, Source

EVERYTHING = Pattern("*", {}, "*")


def declare(
    name: str, suite: str, axes: dict[str, list[Any]], frameworks: Sequence[str], **more: Any
) -> Benchmark:
    def build(self: object) -> Callable[[], None]:
        return lambda: None

    def work(self: object) -> Work:
        return Work(flops=1)

    members = dict.fromkeys(frameworks, build) | {"work": work, "__module__": __name__}
    declared = benchmark(name=name, axes=axes, **more)(type("Probe", (), members))
    return Benchmark(
        **{field: getattr(declared, field) for field in Benchmark.__dataclass_fields__}
        | {"suite": suite}
    )


GEMM = declare(
    "gemm",
    "linear",
    {"n": [256, 512, 1024], "dtype": ["float32", "bfloat16"], "flush": [False, True]},
    ["torch", "tensorflow"],
    quick={"n": [256]},
    size="n",
)
AXPY = declare("axpy", "linear", {"n": [10, 20], "alpha": [0.5, 2.0]}, ["torch"], size="n")
MLP = declare("mlp", "networks", {"batch": [1, 64], "width": [1, "auto"]}, ["torch"])
CATALOG = Catalog(
    {one.name: one for one in (GEMM, AXPY, MLP)},
    {name: Source(name, "module", name) for name in ("linear", "networks")},
    (Broken("devbench.suites", "vision", "ImportError: no module named 'pixels'"),),
)
DEVICES = [
    Device("torch", "cpu", "cpu", "CPU", "cpu"),
    Device("torch", "cuda:0", "cuda", "A GPU", "GPU-0"),
    Device("torch", "cuda:1", "cuda", "A GPU", "GPU-1"),
    Device("tensorflow", "CPU:0", "CPU", "CPU", "cpu"),
    Device("tensorflow", "GPU:0", "GPU", "A GPU", "GPU-0"),
]
CPU = Target("torch", ("cpu",))


# ---- reading SELECT

WORDS = st.text(
    st.characters(exclude_characters="[]@,=", exclude_categories=["Z", "C"]), min_size=1
)


@given(WORDS, st.dictionaries(WORDS, WORDS, max_size=3), st.none() | WORDS)
def test_a_pattern_reads_as_it_is_written(
    name: str, params: dict[str, str], target: str | None
) -> None:
    inside = ",".join(f"{axis}={value}" for axis, value in params.items())
    text = name + (f"[{inside}]" if params else "") + (f"@{target}" if target else "")
    assert Pattern.parse(text) == Pattern(name, params, target or "*")


@given(st.text())
def test_any_text_is_a_pattern_or_a_usage_error(text: str) -> None:
    try:
        pattern = Pattern.parse(text)
    except UsageError:
        return
    assert pattern.name
    assert pattern.target


@given(st.integers(1, 10**6), st.sampled_from(["float32", "bfloat16"]), st.booleans())
def test_a_case_id_selects_just_that_case(n: int, dtype: str, flush: bool) -> None:
    target = Target("torch", ("cuda:1",), 3)
    wanted = Case("linear", "gemm", (("n", n), ("dtype", dtype), ("flush", flush)), target)
    chosen = choose(CATALOG, [wanted.id])
    assert make_cases(chosen, [CPU, target], {}, quick=False) == (wanted,)


def test_spaces_around_axes_and_values_do_not_matter() -> None:
    assert Pattern.parse(" gemm[ n = 1 , dtype=float32 ]@torch:cpu ") == Pattern(
        "gemm", {"n": "1", "dtype": "float32"}, "torch:cpu"
    )


@pytest.mark.parametrize(
    "text", ["", " ", "[n=1]", "@torch:cpu", "gemm[n=1", "gemm]", "gemm[n=1]x"]
)
def test_a_selection_that_cannot_be_read_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"cannot read the selection {text!r}")):
        Pattern.parse(text)


def test_a_part_that_is_no_axis_and_value_is_refused() -> None:
    with pytest.raises(UsageError, match="'1024' is not of the form axis=value"):
        Pattern.parse("gemm[1024]")


def test_an_axis_that_is_given_twice_is_refused_rather_than_half_measured() -> None:
    with pytest.raises(
        UsageError, match=re.escape("several values go into --param n=value,value…")
    ):
        Pattern.parse("gemm[n=1,n=2]")


# ---- choosing


@pytest.mark.parametrize(
    ("select", "names"),
    [
        ([], ["gemm", "axpy", "mlp"]),
        (["*"], ["gemm", "axpy", "mlp"]),
        (["gemm"], ["gemm"]),
        (["linear"], ["gemm", "axpy"]),
        (["net*", "axpy"], ["mlp", "axpy"]),
        (["?lp"], ["mlp"]),
    ],
)
def test_words_choose_suites_and_benchmarks(select: list[str], names: list[str]) -> None:
    assert [one.name for one, _ in choose(CATALOG, select)] == names


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (["gem"], "there is no suite or benchmark 'gem'; did you mean 'gemm'?"),
        (["Linear"], "did you mean 'linear'?"),
        (["zzz*"], "there is no suite or benchmark 'zzz*'; known: axpy, gemm, linear"),
        (["gemm[size=3]"], "there is no axis 'size'; known: cache, dtype, flush, n"),
        (["linear[alhpa=3]"], "there is no axis 'alhpa'; did you mean 'alpha'?"),
        (["gemm", "gem"], "there is no suite or benchmark 'gem'"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_close_matches(
    select: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        choose(CATALOG, select)


def test_a_benchmark_that_is_called_like_its_suite_is_meant_alone() -> None:
    both = [declare(name, "rnn", {"n": [1]}, ["torch"]) for name in ("rnn", "rnn_bidirectional")]
    catalog = Catalog({one.name: one for one in both}, {"rnn": Source("rnn", "module", "rnn")}, ())
    assert [one.name for one, _ in choose(catalog, ["rnn"])] == ["rnn"]
    assert [one.name for one, _ in choose(catalog, ["rnn*"])] == ["rnn", "rnn_bidirectional"]


def test_a_suite_that_cannot_be_loaded_says_why_when_it_is_asked_for() -> None:
    message = "the suite 'vision' cannot be loaded: ImportError: no module named 'pixels'"
    with pytest.raises(UsageError, match=message):
        choose(CATALOG, ["vision"])


# ---- values


def test_overrides_collect_values_of_an_axis() -> None:
    assert parse_overrides(["n=1,2", "dtype=float32", "n= 3 ,"]) == {
        "n": ["1", "2", "3"],
        "dtype": ["float32"],
    }


@pytest.mark.parametrize("text", ["", "n", "n=", "=1", "n=,", " =1"])
def test_an_override_without_axis_or_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--param takes axis=value,value"):
        parse_overrides([text])


@pytest.mark.parametrize(
    ("of", "axis", "text", "value"),
    [
        (GEMM, "n", "1000", 1000),
        (GEMM, "dtype", "bfloat16", "bfloat16"),
        (GEMM, "flush", "true", True),
        (AXPY, "alpha", "3", 3.0),
        (AXPY, "alpha", "-1e-3", -0.001),
        (MLP, "width", "auto", "auto"),
        (MLP, "width", "1", 1),
    ],
)
def test_a_value_takes_the_type_of_its_axis(
    of: Benchmark, axis: str, text: str, value: object
) -> None:
    read = read_value(of, axis, text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("of", "axis", "text", "message"),
    [
        (GEMM, "n", "big", "gemm's axis 'n' takes a whole number, e.g. n=256, not 'big'"),
        (GEMM, "n", "1.5", "takes a whole number"),
        (GEMM, "n", "0", "gemm's axis 'n' must be positive, not 0"),
        (GEMM, "n", "-4", "gemm's axis 'n' must be positive, not -4"),
        (MLP, "batch", "0", "mlp's axis 'batch' must be positive, not 0"),
        (GEMM, "n", "9" * 400, "takes a whole number"),
        (GEMM, "dtype", "float31", "did you mean 'float32'"),
        (
            GEMM,
            "flush",
            "True",
            "there is no value of gemm's axis 'flush': 'True'; did you mean 'true'",
        ),
        (AXPY, "alpha", "x", "axpy's axis 'alpha' takes a number, e.g. alpha=0.5, not 'x'"),
        (AXPY, "alpha", "nan", "takes a number"),
        (AXPY, "alpha", "inf", "takes a number"),
        (MLP, "width", "2", "there is no value of mlp's axis 'width': '2'"),
    ],
)
def test_a_value_that_the_axis_cannot_take_is_refused(
    of: Benchmark, axis: str, text: str, message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        read_value(of, axis, text)


# ---- points of the axes


def points(
    of: Benchmark, pattern: str = "*", quick: bool = False, **overrides: list[str]
) -> list[Any]:
    return [tuple(p.values()) for p in expand(of, Pattern.parse(pattern), overrides, quick)]


def test_all_combinations_are_points() -> None:
    assert points(AXPY) == [(10, 0.5), (10, 2.0), (20, 0.5), (20, 2.0)]


def test_quick_takes_the_short_sweep() -> None:
    assert points(GEMM, quick=True) == [(256, "float32", False)]


def test_an_override_replaces_the_sweep_even_under_quick() -> None:
    assert points(AXPY, n=["7", "8"], alpha=["1"]) == [(7, 1.0), (8, 1.0)]
    assert points(GEMM, quick=True, n=["9"]) == [(9, "float32", False)]


def test_a_value_in_the_pattern_wins_over_the_sweep_and_the_override() -> None:
    assert points(AXPY, "axpy[n=5,alpha=2.0]") == [(5, 2.0)]
    assert points(AXPY, "axpy[n=5]", n=["7"], alpha=["1"]) == [(5, 1.0)]


def test_a_wildcard_in_the_pattern_chooses_from_the_sweep() -> None:
    assert points(AXPY, "axpy[n=1?,alpha=*]") == [(10, 0.5), (10, 2.0)]
    assert points(AXPY, "axpy[n=9*]") == []


def test_a_value_that_is_given_twice_is_one_point() -> None:
    assert points(AXPY, n=["7", "7"], alpha=["1", "1.0"]) == [(7, 1.0)]


# ---- targets


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ([], ["torch:cpu", "torch:cuda:0", "torch:cuda:1", "tensorflow:CPU:0", "tensorflow:GPU:0"]),
        (["torch:cuda:1"], ["torch:cuda:1"]),
        (["cuda:0"], ["torch:cuda:0"]),
        (["cuda"], ["torch:cuda:0", "torch:cuda:1"]),
        (["gpu"], ["torch:cuda:0", "torch:cuda:1", "tensorflow:GPU:0"]),
        (["cpu"], ["torch:cpu", "tensorflow:CPU:0"]),
        (["CUDA:0"], ["torch:cuda:0"]),
        (["Torch:CPU"], ["torch:cpu"]),
        (["gpu:0", "cpu:0"], ["tensorflow:CPU:0", "tensorflow:GPU:0"]),
    ],
)
def test_devices_are_found_by_id_address_kind_and_gpu(wanted: list[str], ids: list[str]) -> None:
    assert [str(target) for target in find_targets(DEVICES, wanted, [], [])] == ids


def test_frameworks_and_threads_multiply_and_restrict_the_targets() -> None:
    targets = find_targets(DEVICES, ["cpu"], ["torch"], [1, 2])
    assert [str(target) for target in targets] == ["torch:cpu;threads=1", "torch:cpu;threads=2"]


@pytest.mark.parametrize(
    ("wanted", "frameworks", "message"),
    [
        (["cuda:7"], [], "there is no device 'cuda:7'; did you mean"),
        (["tpu"], [], "there is no device 'tpu'"),
        (["cpu", "tpu"], [], "there is no device 'tpu'"),
        (["cuda:0"], ["tensorflow"], "there is no device 'cuda:0'; known: CPU:0, GPU:0"),
    ],
)
def test_a_device_that_is_not_there_is_answered_with_those_that_are(
    wanted: list[str], frameworks: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        find_targets(DEVICES, wanted, frameworks, [])
    assert "`devbench detect` shows what there is and why" in str(caught.value)


def test_a_gpu_is_asked_for_in_vain_on_a_machine_without() -> None:
    with pytest.raises(UsageError, match="there is no device 'gpu'"):
        find_targets([DEVICES[0], DEVICES[3]], ["gpu"], [], [])


# ---- cases


def test_a_case_that_two_words_select_is_measured_once() -> None:
    chosen = choose(CATALOG, ["axpy", "linear", "axpy[n=10]"])
    ids = [case.id for case in make_cases(chosen, [CPU], {}, quick=False)]
    assert len(ids) == len(set(ids)) == 4 + 12


def test_cases_are_only_made_where_there_is_a_builder() -> None:
    targets = [CPU, Target("tensorflow", ("CPU:0",))]
    cases = make_cases(choose(CATALOG, ["linear"]), targets, {}, quick=True)
    assert [case.id for case in cases] == [
        "gemm[n=256,dtype=float32,flush=false]@torch:cpu",
        "gemm[n=256,dtype=float32,flush=false]@tensorflow:CPU:0",
        "axpy[n=10,alpha=0.5]@torch:cpu",
    ]
    assert {case.work for case in cases} == {Work(flops=1)}


def test_a_pattern_may_restrict_the_target() -> None:
    targets = find_targets(DEVICES, [], [], [])
    cases = make_cases(choose(CATALOG, ["axpy[n=10,alpha=0.5]@torch:cuda:*"]), targets, {}, False)
    assert [str(case.target) for case in cases] == ["torch:cuda:0", "torch:cuda:1"]


def test_an_override_of_an_axis_that_no_chosen_benchmark_has_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no axis 'batch'; did you mean 'cache'"):
        make_cases(choose(CATALOG, ["axpy"]), [CPU], {"batch": ["1"]}, quick=False)


@pytest.mark.parametrize(
    ("select", "targets"),
    [
        (["axpy@torch:cuda:*"], [CPU]),
        (["axpy[n=9*]"], [CPU]),
        (["axpy"], [Target("tensorflow", ("CPU:0",))]),
        (["axpy"], []),
    ],
)
def test_a_selection_that_leaves_nothing_is_never_a_success(
    select: list[str], targets: list[Target]
) -> None:
    with pytest.raises(NothingMeasured, match="the selection leaves nothing to measure") as caught:
        make_cases(choose(CATALOG, select), targets, {}, quick=False)
    assert caught.value.exit_code == 3


# ---- order

SIZES = {"gemm": "n", "axpy": "n", "mlp": None}
CASES = make_cases(
    choose(CATALOG, []), [CPU, Target("torch", ("cuda:0",))], {"n": ["3", "10", "200"]}, quick=False
)


@given(st.permutations(CASES), st.integers(0, 9), st.integers(0, 99))
def test_an_order_visits_each_case_once(cases: list[Case], round_: int, seed: int) -> None:
    visited = order(cases, SIZES, round_, seed)
    assert sorted(case.id for case in visited) == sorted(case.id for case in cases)


@given(st.permutations(CASES), st.integers(0, 99))
def test_the_first_round_goes_from_small_to_large_within_a_series(
    cases: list[Case], seed: int
) -> None:
    seen: dict[tuple[str, ...], list[float]] = {}
    for case in order(cases, SIZES, 0, seed):
        if (size := SIZES[case.benchmark]) is not None:
            value = float(dict(case.params)[size])
            seen.setdefault(series(case, size), []).append(value)
    assert seen
    assert all(sizes == sorted(sizes) == [3, 10, 200] for sizes in seen.values())


def test_rounds_and_seeds_give_different_orders() -> None:
    orders = [tuple(order(CASES, SIZES, round_, seed)) for round_ in range(4) for seed in range(4)]
    assert len(set(orders)) == len(orders)
    first = [series(case, SIZES[case.benchmark]) for case in orders[0]]
    assert first != sorted(first)


ORDER = """
from tests.test_plan import CASES, SIZES
from devbench.plan import order
print(*(case.id for r in (0, 1) for case in order(CASES, SIZES, r, 5)), sep="\\n")
"""


def test_the_order_is_the_same_in_every_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORDER],
        cwd=Path(__file__).parents[1],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [case.id for r in (0, 1) for case in order(CASES, SIZES, r, 5)]


# ---- several devices, and ways of executing

RANKS = declare("ranks", "parallel", {"world_size": [1, 2, 4]}, ["torch"])
MODES = declare(
    "modes", "networks", {"mode": ["eager", "compiled", "xla"]}, ["torch", "tensorflow"]
)


def targets_of(benchmark: Benchmark, *targets: Target) -> list[str]:
    return [str(case.target) for case in make_cases([(benchmark, EVERYTHING)], targets, {}, False)]


def test_a_world_size_takes_as_many_devices_of_a_kind_as_there_are() -> None:
    gpus = [Target("torch", (f"cuda:{index}",)) for index in range(3)]
    assert targets_of(RANKS, *gpus) == ["torch:cuda:0", "torch:cuda:0-1", "torch:cuda:0-2"]


def test_ranks_on_a_cpu_share_its_one_device() -> None:
    assert targets_of(RANKS, CPU, Target("torch", ("cpu",), 1)) == [
        target for _ in (1, 2, 4) for target in ("torch:cpu", "torch:cpu;threads=1")
    ]


def test_a_mode_that_a_framework_lacks_makes_no_case() -> None:
    cases = make_cases(
        [(MODES, EVERYTHING)], [CPU, Target("tensorflow", ("CPU:0",))], {}, quick=False
    )
    assert [(case.target.framework, dict(case.params)["mode"]) for case in cases] == [
        ("torch", "eager"),
        ("tensorflow", "eager"),
        ("torch", "compiled"),
        ("tensorflow", "xla"),
    ]
