"""How a benchmark is declared: the `benchmark` decorator, `Step`, and the `Context` of a builder.

A suite is a module; each class in it under ``@benchmark(...)`` is one benchmark. Methods are called
with what their signature names and nothing else, as pytest does with fixtures:

=============  ==========================================================  =======================
method         may name                                                    returns
=============  ==========================================================  =======================
work           the axes                                                    `Work`
inputs         rng, the axes                                               nested dicts and lists
                                                                           of numpy arrays
reference      the axes, the inputs (rounded to the dtype, as float64)     what the step should give
closed_form    observed, the axes, the inputs                              the same, as far as it
                                                                           follows from `observed`
<framework>    ctx, the axes, the inputs (tensors on the device)           `Step` or a callable
=============  ==========================================================  =======================

Where an axis is called ``dtype``, methods get it as a `DType`.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import devbench.model as model
from devbench.errors import DeclarationError, UsageError
from devbench.model import DType, ParamValue, Work

if TYPE_CHECKING:
    import numpy as np

_RESERVED: Final = frozenset({"work", "inputs", "reference", "closed_form"})
#: Names of arguments that methods get besides axes and inputs.
ARGUMENTS: Final = frozenset({"ctx", "rng", "observed"})

#: Axes that every benchmark has without declaring them; they join the params when they are asked for.
#: cache: cold overwrites the caches before each sample, outside the timing.
ENGINE_AXES: Final[Mapping[str, tuple[ParamValue, ...]]] = {"cache": ("hot", "cold")}

#: `reference` in place of a function: outputs equal the inputs bit for bit (``exact``), the builder
#: itself raises when a property does not hold (``property``), or nothing can be checked (None).
ReferenceKind = Literal["function", "exact", "property"] | None


@dataclass(frozen=True, slots=True)
class Step:
    """What is executed once a sample, and what belongs to it outside the timing.

    run: does the work once and returns everything it computed.
    output: turns what `run` returned into what the reference is compared with.
    stateful: the outcome differs from call to call, as in training; otherwise a second call must give
    what the first one gave.
    reset: called before each `run`, untimed; samples are then single steps.
    close: called when the case is done.
    clock: runs the step and returns its seconds, where the step must time itself.
    metrics: called once after the samples: further figures of the case, such as where its time went.
    A name ends in its unit (``_s``, ``_bytes``, ``_per_s``, ``_fraction``); a text is a remark.
    """

    run: Callable[[], Any]
    output: Callable[[Any], Any] | None = None
    reset: Callable[[], None] | None = None
    close: Callable[[], None] | None = None
    clock: Callable[[], float] | None = None
    metrics: Callable[[], Mapping[str, float | str]] | None = None
    stateful: bool = False


@dataclass(frozen=True, slots=True)
class Product:
    """As a leaf of a reference: the product left @ right, too large to be computed in full.

    The output is then held against some of its rows, and against left @ (right @ v) for random
    vectors v of ±1 (Freivalds 1977, "Probabilistic machines can use less running time").
    """

    left: np.ndarray
    right: np.ndarray


@dataclass(frozen=True, slots=True)
class Context:
    """What a builder may know about where it runs.

    device: as the framework wants it written (``cuda:0`` in torch, ``/GPU:0`` in TensorFlow).
    compile: wraps a function in the execution mode of the case (torch eager: as it is; TensorFlow:
    ``tf.function``). What the function computes on must be its arguments: constants get folded.
    scratch: a folder that is removed after the run.
    """

    framework: str
    device: str
    devices: tuple[str, ...]
    dtype: DType
    mode: str
    threads: int
    params: Mapping[str, ParamValue]
    scratch: Path
    compile: Callable[[Callable[..., Any]], Callable[..., Any]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A declared workload. `definition` holds the methods; `where` reads ``file:line``.

    `suite` is set by the registry, from the entry point or the file that brought the module.
    """

    name: str
    axes: Mapping[str, tuple[ParamValue, ...]]
    quick: Mapping[str, tuple[ParamValue, ...]]
    size: str | None
    definition: Any = field(repr=False)
    doc: str
    where: str
    suite: str = ""

    @property
    def known_axes(self) -> Mapping[str, tuple[ParamValue, ...]]:
        """The declared axes and those that the engine serves for every benchmark."""
        return {**ENGINE_AXES, **self.axes}

    @property
    def builders(self) -> tuple[str, ...]:
        """Names of the frameworks that it has a builder for."""
        cls = type(self.definition)
        return tuple(
            name
            for name, member in inspect.getmembers(cls, callable)
            if not name.startswith("_") and name not in _RESERVED
        )

    @property
    def reference_kind(self) -> ReferenceKind:
        reference = getattr(self.definition, "reference", None)
        if callable(reference):
            return "function"
        if reference in ("exact", "property"):
            return reference  # type: ignore[no-any-return]
        return None

    def work(self, params: Mapping[str, ParamValue]) -> Work:
        """The declared work at `params`. Raises DeclarationError when it is impossible."""
        if not hasattr(self.definition, "work"):
            return Work()
        try:
            work = self.call("work", params)
        except UsageError:
            raise
        except Exception as error:
            raise DeclarationError(
                f"{self.name}.work failed at {model.format_params(params)}: "
                f"{type(error).__name__}: {error}",
                self.where,
            ) from error
        if not isinstance(work, Work):
            raise DeclarationError(
                f"{self.name}.work must return a devbench.Work, not {work!r}", self.where
            )
        if problems := work.problems():
            raise DeclarationError(f"{self.name}: {problems[0]}", self.where)
        return work

    def call(self, method: str, params: Mapping[str, ParamValue], **more: Any) -> Any:
        """Call a method of the definition with what its signature names of `params` and `more`."""
        available: dict[str, Any] = {**params, **more}
        if "dtype" in params:
            available["dtype"] = model.dtype(str(params["dtype"]))
        function = getattr(self.definition, method)
        arguments = {}
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                arguments = available
                break
            if parameter.name in available:
                arguments[parameter.name] = available[parameter.name]
            elif parameter.default is parameter.empty:
                raise DeclarationError(
                    f"{self.name}.{method} asks for {parameter.name!r}, which is neither an axis nor "
                    f"an input; there is: {', '.join(available)}",
                    _where(function) or self.where,
                )
        return function(**arguments)


def benchmark(
    *,
    name: str,
    axes: Mapping[str, Sequence[ParamValue]],
    quick: Mapping[str, Sequence[ParamValue]] | None = None,
    size: str | None = None,
) -> Callable[[type], Benchmark]:
    """Declare the decorated class as a benchmark.

    axes: the default sweep, axis name → values; every combination is a case.
    quick: the values under ``--quick``; an axis left out takes its first value.
    size: the axis along which a case gets bigger: prediction, pruning and crossover go along it.

    Raises DeclarationError with file and line for a declaration that cannot be.
    """

    def declare(cls: type) -> Benchmark:
        where = _where(cls) or "<interactive>"

        def refuse(message: str) -> DeclarationError:
            return DeclarationError(f"benchmark {name!r}: {message}", where)

        if not name or not all(char.isalnum() or char in "_-." for char in name):
            raise DeclarationError(
                f"a benchmark's name consists of letters, digits and _ - . only, not {name!r}",
                where,
            )
        for axis in axes:
            if not axis.isidentifier() or axis in ARGUMENTS:
                raise refuse(
                    f"{axis!r} cannot be an axis: methods take it as an argument, besides "
                    f"{', '.join(sorted(ARGUMENTS))}"
                )
        for axis in quick or {}:
            if axis not in axes:
                raise refuse(f"quick names the axis {axis!r}; there is: {', '.join(axes)}")
        for axis, values in itertools.chain(axes.items(), (quick or {}).items()):
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise refuse(f"axis {axis!r} needs a list of at least one value, not {values!r}")
            for value in values:
                if not isinstance(value, str | int | float | bool):
                    raise refuse(
                        f"axis {axis!r} has the value {value!r}; use text, numbers or booleans"
                    )
                if isinstance(value, float) and not math.isfinite(value):
                    raise refuse(f"axis {axis!r} has the value {value!r}, which is no number")
                if isinstance(value, str) and any(char in "[],=@;" for char in value):
                    raise refuse(
                        f"axis {axis!r} has the value {value!r}; [ ] , = @ ; are kept for case ids"
                    )
                if value not in ENGINE_AXES.get(axis, (value,)):
                    known = ", ".join(map(str, ENGINE_AXES[axis]))
                    raise refuse(
                        f"axis {axis!r} has the value {value!r}; devbench serves it, and knows: {known}"
                    )
                if axis == "dtype" and value not in model.DTYPES:
                    raise refuse(f"unknown dtype {value!r}; known: {', '.join(model.DTYPES)}")
                if axis == size and (isinstance(value, str | bool) or value <= 0):
                    raise refuse(
                        f"the size axis {size!r} must hold positive numbers, not {value!r}"
                    )
        if size is not None and size not in axes:
            raise refuse(f"size names the axis {size!r}; there is: {', '.join(axes)}")
        try:
            definition = cls()
        except Exception as error:
            raise refuse(f"its class cannot be made without arguments: {error}") from error
        declared = Benchmark(
            name=name,
            axes={axis: tuple(values) for axis, values in axes.items()},
            quick={axis: tuple((quick or {}).get(axis, axes[axis][:1])) for axis in axes},
            size=size,
            definition=definition,
            doc=inspect.cleandoc(cls.__doc__ or ""),
            where=where,
        )
        _check_methods(declared, refuse)
        return declared

    return declare


def _check_methods(declared: Benchmark, refuse: Callable[[str], DeclarationError]) -> None:
    axes = ", ".join(declared.axes)
    for method, extra in (("work", set()), ("inputs", {"rng"})):
        function = getattr(declared.definition, method, None)
        if function is None:
            continue
        if not callable(function):
            raise refuse(f"{method} must be a method")
        for parameter in inspect.signature(function).parameters.values():
            known = {*declared.axes, *extra}
            if (
                parameter.name not in known
                and parameter.default is parameter.empty
                and (parameter.kind is not parameter.VAR_KEYWORD)
            ):
                close = difflib.get_close_matches(parameter.name, known, n=1)
                guess = f"; did you mean {close[0]!r}?" if close else ""
                raise refuse(
                    f"{method} asks for {parameter.name!r}, which is no axis (axes: {axes}){guess}"
                )
    reference = getattr(declared.definition, "reference", None)
    if not callable(reference) and reference not in (None, "exact", "property"):
        raise refuse(f"reference is a method, 'exact', 'property' or None, not {reference!r}")
    if not declared.builders:
        raise refuse(
            "it has no builder; define a method named after a framework, e.g. torch(self, ctx)"
        )


def _where(thing: Any) -> str | None:
    try:
        return f"{inspect.getsourcefile(thing)}:{inspect.getsourcelines(thing)[1]}"
    except (OSError, TypeError):  # no source, as in an interactive session
        return None
