from __future__ import annotations

import linecache
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from devbench.declare import Benchmark, benchmark
from devbench.errors import DeclarationError, UsageError
from devbench.model import DType, Work


class Plain:
    """Does nothing.

    And says so.
    """

    def torch(self) -> Callable[[], None]:
        return lambda: None


def declare(
    cls: type = Plain, axes: Mapping[str, Any] | None = None, name: str = "probe", **more: Any
) -> Benchmark:
    return benchmark(name=name, axes={"n": [1, 2, 3]} if axes is None else axes, **more)(cls)


def refusal(*args: Any, **kwargs: Any) -> str:
    """What the declaration is refused with, after its file and line."""
    with pytest.raises(DeclarationError) as caught:
        declare(*args, **kwargs)
    match = re.match(rf"{re.escape(__file__)}:(\d+): (.*)", str(caught.value), re.DOTALL)
    assert match is not None, f"no file and line in: {caught.value}"
    return match[2]


def test_a_declaration_knows_its_axes_text_and_place() -> None:
    declared = declare(axes={"n": [1, 2], "dtype": ["float32", "float16"]}, size="n")
    assert declared.axes == {"n": (1, 2), "dtype": ("float32", "float16")}
    assert declared.doc == "Does nothing.\n\nAnd says so."
    assert re.fullmatch(rf"{re.escape(__file__)}:\d+", declared.where)
    line = int(declared.where.rsplit(":", 1)[1])
    assert linecache.getline(__file__, line) == "class Plain:\n"


def test_quick_takes_the_first_value_of_an_axis_it_leaves_out() -> None:
    axes = {"n": [1, 2, 3], "dtype": ["float32", "float16"]}
    assert declare(axes=axes).quick == {"n": (1,), "dtype": ("float32",)}
    assert declare(axes=axes, quick={"n": [2, 4]}).quick == {"n": (2, 4), "dtype": ("float32",)}


def test_axes_may_be_any_sequence_and_may_be_none() -> None:
    assert declare(axes={"n": range(1, 4)}).axes == {"n": (1, 2, 3)}
    assert declare(axes={}).quick == {}


# ---- refusals of the decorator


@pytest.mark.parametrize("name", ["", "a b", "a[1]", "a@b", "a,b", "a\n", "a/b"])
def test_a_name_that_a_case_id_cannot_hold_is_refused(name: str) -> None:
    assert "letters, digits and _ - . only" in refusal(name=name)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"n": []}, "axis 'n' needs a list of at least one value"),
        ({"n": "float32"}, "axis 'n' needs a list of at least one value"),
        ({"n": {1, 2}}, "axis 'n' needs a list of at least one value"),
        ({"n": 5}, "axis 'n' needs a list of at least one value"),
        ({"n": [None]}, "axis 'n' has the value None; use text, numbers or booleans"),
        ({"n": [(1, 2)]}, "axis 'n' has the value (1, 2)"),
        ({"n": [1.0, math.nan]}, "axis 'n' has the value nan, which is no number"),
        ({"n": [math.inf]}, "axis 'n' has the value inf, which is no number"),
        ({"kind": ["a,b"]}, "are kept for case ids"),
        ({"kind": ["a=b"]}, "are kept for case ids"),
        ({"kind": ["a[0]"]}, "are kept for case ids"),
        ({"kind": ["a@b"]}, "are kept for case ids"),
        ({"kind": ["a;b"]}, "are kept for case ids"),
        ({"a=b": [1]}, "'a=b' cannot be an axis"),
        ({"two words": [1]}, "'two words' cannot be an axis"),
        ({"ctx": [1]}, "'ctx' cannot be an axis"),
        ({"rng": [1]}, "'rng' cannot be an axis"),
        ({"observed": [1]}, "'observed' cannot be an axis"),
        ({"dtype": ["float31"]}, "unknown dtype 'float31'; known: float64, float32"),
        ({"dtype": [32]}, "unknown dtype 32"),
        ({"cache": ["hot", "lukewarm"]}, "axis 'cache' has the value 'lukewarm'"),
    ],
)
def test_an_axis_that_cannot_be_is_refused(axes: Mapping[str, Any], message: str) -> None:
    assert message in refusal(axes=axes)


@pytest.mark.parametrize(
    ("quick", "message"),
    [
        ({"m": [1]}, "quick names the axis 'm'; there is: n"),
        ({"n": []}, "axis 'n' needs a list of at least one value"),
        ({"n": "12"}, "axis 'n' needs a list of at least one value"),
        ({"n": [None]}, "axis 'n' has the value None"),
        ({"n": [0]}, "the size axis 'n' must hold positive numbers, not 0"),
    ],
)
def test_quick_is_checked_like_the_axes(quick: Mapping[str, Any], message: str) -> None:
    assert message in refusal(quick=quick, size="n")


def test_an_unknown_dtype_in_quick_is_refused() -> None:
    message = refusal(axes={"dtype": ["float32"]}, quick={"dtype": ["half"]})
    assert "unknown dtype 'half'" in message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 0], "must hold positive numbers, not 0"),
        ([-1], "must hold positive numbers, not -1"),
        (["small"], "must hold positive numbers, not 'small'"),
        ([True], "must hold positive numbers, not True"),
    ],
)
def test_a_size_axis_that_is_no_size_is_refused(values: list[Any], message: str) -> None:
    assert message in refusal(axes={"n": values}, size="n")


def test_a_size_that_is_no_axis_is_refused() -> None:
    assert "size names the axis 'm'; there is: n" in refusal(size="m")


# ---- refusals of the class


class NeedsArguments(Plain):
    def __init__(self, n: int) -> None:
        self.n = n


class NoBuilder:
    def work(self) -> Work:
        return Work()

    def _helper(self) -> None:
        """Not a builder: it begins with an underscore."""


class WorkOfAnotherAxis(Plain):
    def work(self, m: int) -> Work:
        return Work(flops=m)


class WorkIsANumber(Plain):
    work = 5


class InputsAskForContext(Plain):
    def inputs(self, rng: object, ctx: object) -> dict[str, object]:
        return {}


class InputsAskForManyThings(Plain):
    def inputs(self, *things: object) -> dict[str, object]:
        return {}


class WrongReference(Plain):
    reference = "excat"


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (NeedsArguments, "its class cannot be made without arguments"),
        (NoBuilder, "it has no builder; define a method named after a framework"),
        (WorkOfAnotherAxis, "work asks for 'm', which is no axis (axes: n)"),
        (WorkIsANumber, "work must be a method"),
        (InputsAskForContext, "inputs asks for 'ctx', which is no axis"),
        (InputsAskForManyThings, "inputs asks for 'things', which is no axis"),
        (WrongReference, "reference is a method, 'exact', 'property' or None, not 'excat'"),
    ],
)
def test_a_class_that_cannot_be_a_benchmark_is_refused(cls: type, message: str) -> None:
    assert refusal(cls).startswith(f"benchmark 'probe': {message}")


def test_a_misspelt_axis_in_a_signature_is_guessed() -> None:
    class Misspelt(Plain):
        def work(self, bach: int) -> Work:
            return Work(items=bach)

    assert "did you mean 'batch'?" in refusal(Misspelt, axes={"batch": [1]})


# ---- builders and references


def test_builders_are_the_public_methods_that_have_no_other_meaning() -> None:
    class Full(Plain):
        constant = 3

        def tensorflow(self) -> None: ...
        def work(self) -> Work:
            return Work()

        def inputs(self) -> dict[str, object]:
            return {}

        def reference(self) -> None: ...
        def closed_form(self) -> None: ...
        def _helper(self) -> None: ...

    assert declare(Full).builders == ("tensorflow", "torch")


@pytest.mark.parametrize("reference", ["exact", "property", None])
def test_a_reference_may_be_a_word(reference: str | None) -> None:
    cls = type("Probe", (Plain,), {"reference": reference, "__module__": __name__})
    assert declare(cls).reference_kind == reference


def test_a_reference_may_be_a_method_or_absent() -> None:
    class WithReference(Plain):
        def reference(self) -> None: ...

    assert declare(WithReference).reference_kind == "function"
    assert declare().reference_kind is None


# ---- calling


class Caller(Plain):
    def names(self, n: int, a: object, more: int = 7) -> tuple[object, ...]:
        return n, a, more

    def format(self, dtype: DType) -> DType:
        return dtype

    def everything(self, **given: object) -> dict[str, object]:
        return given

    def absent(self, weights: object) -> None: ...


def test_a_method_is_given_what_its_signature_names() -> None:
    declared = declare(Caller)
    assert declared.call("names", {"n": 4}, a="A", b="B") == (4, "A", 7)
    assert declared.call("names", {"n": 4}, a="A", more=1) == (4, "A", 1)
    assert declared.call("everything", {"n": 4}, a="A") == {"n": 4, "a": "A"}


def test_the_dtype_axis_arrives_as_a_dtype() -> None:
    declared = declare(Caller)
    assert declared.call("format", {"dtype": "bfloat16"}).itemsize == 2
    with pytest.raises(UsageError, match="there is no dtype 'float17'"):
        declared.call("format", {"dtype": "float17"})


def test_an_argument_that_nobody_gives_is_named_with_its_line() -> None:
    declared = declare(Caller)
    with pytest.raises(DeclarationError) as caught:
        declared.call("absent", {"n": 4}, a="A")
    match = re.match(rf"{re.escape(__file__)}:(\d+): (.*)", str(caught.value))
    assert match is not None
    assert "def absent" in linecache.getline(__file__, int(match[1]))
    assert match[2] == (
        "probe.absent asks for 'weights', which is neither an axis nor an input; there is: n, a"
    )


# ---- work


class Worker(Plain):
    answer: Any = None

    def work(self, n: int) -> Any:
        return self.answer


def with_work(answer: object) -> Benchmark:
    return declare(type("Probe", (Worker,), {"answer": answer, "__module__": __name__}))


def test_work_that_is_not_declared_is_unknown() -> None:
    assert declare().work({"n": 1}) == Work()


def test_declared_work_is_returned() -> None:
    assert with_work(Work(flops=5, terms=2)).work({"n": 1}) == Work(flops=5, terms=2)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "probe.work must return a devbench.Work, not None"),
        (12.0, "probe.work must return a devbench.Work, not 12.0"),
        ({"flops": 3}, "probe.work must return a devbench.Work"),
        (Work(flops=-1), "probe: work gives flops=-1; it must be finite and not negative"),
        (Work(bytes=math.nan), "probe: work gives bytes=nan"),
        (Work(footprint=math.inf), "probe: work gives footprint=inf"),
        (Work(items="3"), "probe: work gives items='3', which is not a number"),  # type: ignore[arg-type]
    ],
)
def test_impossible_work_is_refused_with_its_place(answer: object, message: str) -> None:
    with pytest.raises(DeclarationError, match=re.escape(message)) as caught:
        with_work(answer).work({"n": 1})
    assert re.match(r"(<interactive>|.*:\d+): ", str(caught.value))


def test_work_that_fails_is_named_with_its_point_and_place() -> None:
    class Broken:
        def work(self, n: int) -> Work:
            return Work(flops=1 / (n - 1))

        def torch(self) -> Callable[[], None]:
            return lambda: None

    declared = benchmark(name="broken", axes={"n": [1]})(Broken)
    with pytest.raises(DeclarationError, match=r"broken\.work failed at n=1: ZeroDivisionError"):
        declared.work({"n": 1})
