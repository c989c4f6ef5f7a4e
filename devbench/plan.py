"""From what was asked for to an ordered list of cases: benchmarks × axes × targets."""

from __future__ import annotations

import itertools
import random
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from devbench.declare import Benchmark
from devbench.errors import NothingMeasured, UsageError, unknown
from devbench.model import Case, Device, ParamValue, Target, format_value
from devbench.registry import Catalog, frameworks


@dataclass(frozen=True, slots=True)
class Pattern:
    """One word of SELECT: ``suite``, ``benchmark``, or ``benchmark[axis=value,…]@target``.

    Each part may hold the wildcards * and ?; what is left out matches everything. A value without a
    wildcard replaces the axis' sweep, so ``matmul[n=1000]`` measures a size of one's own.
    """

    name: str
    params: Mapping[str, str]
    target: str

    @classmethod
    def parse(cls, text: str) -> Pattern:
        match = re.fullmatch(r"([^\[\]@]+)(?:\[([^\[\]]*)\])?(?:@(.+))?", text.strip())
        if match is None:
            raise UsageError(
                f"cannot read the selection {text!r}; it is a suite, a benchmark, or a case such as "
                "'matmul[n=1024]@torch:cpu' (* and ? match anything)"
            )
        params = {}
        for part in filter(None, (match[2] or "").split(",")):
            axis, equals, value = part.partition("=")
            if not equals:
                raise UsageError(f"in {text!r}, {part!r} is not of the form axis=value")
            if axis.strip() in params:
                raise UsageError(
                    f"{text!r} gives {axis.strip()!r} twice; several values go into "
                    f"--param {axis.strip()}=value,value…"
                )
            params[axis.strip()] = value.strip()
        return cls(match[1], params, match[3] or "*")


def choose(catalog: Catalog, select: Sequence[str]) -> list[tuple[Benchmark, Pattern]]:
    """The benchmarks that the words of SELECT mean; all of them when there are none. A benchmark that
    is called like its suite is meant alone: the suite ``mlp`` is ``mlp*``."""
    chosen = []
    for pattern in map(Pattern.parse, select or ("*",)):
        alone = catalog.benchmarks.get(pattern.name)
        found = [
            benchmark
            for benchmark in (catalog.benchmarks.values() if alone is None else [alone])
            if fnmatchcase(benchmark.name, pattern.name)
            or fnmatchcase(benchmark.suite, pattern.name)
        ]
        if not found:
            broken = [one for one in catalog.broken if one.name == pattern.name]
            if broken:
                raise UsageError(
                    f"the suite {broken[0].name!r} cannot be loaded: {broken[0].error}"
                )
            known = {*catalog.benchmarks, *catalog.suites}
            raise UsageError(
                unknown("suite or benchmark", pattern.name, known, "`devbench list` shows them all")
            )
        for axis in pattern.params:
            if not any(axis in benchmark.known_axes for benchmark in found):
                raise UsageError(_unknown_axis(axis, found))
        chosen += [(benchmark, pattern) for benchmark in found]
    return chosen


def parse_overrides(texts: Iterable[str]) -> dict[str, list[str]]:
    """``["n=1024,2048"]`` as {"n": ["1024", "2048"]}."""
    overrides: dict[str, list[str]] = {}
    for text in texts:
        axis, equals, values = text.partition("=")
        words = [word.strip() for word in values.split(",") if word.strip()]
        if not equals or not axis.strip() or not words:
            raise UsageError(
                f"--param takes axis=value,value…, e.g. --param n=1024,2048, not {text!r}"
            )
        overrides.setdefault(axis.strip(), []).extend(words)
    return overrides


def expand(
    benchmark: Benchmark, pattern: Pattern, overrides: Mapping[str, Sequence[str]], quick: bool
) -> Iterator[dict[str, ParamValue]]:
    """Every point of the benchmark's axes that was asked for."""
    sweep = []
    for axis, values in benchmark.known_axes.items():
        if axis not in benchmark.axes and axis not in overrides and axis not in pattern.params:
            continue
        chosen: Sequence[ParamValue] = values
        if quick and axis in benchmark.axes:
            chosen = benchmark.quick[axis]
        if axis in overrides:
            chosen = [read_value(benchmark, axis, text) for text in overrides[axis]]
        wanted = pattern.params.get(axis)
        if wanted is not None:
            if re.search(r"[*?]", wanted):
                chosen = [value for value in values if fnmatchcase(format_value(value), wanted)]
            else:
                chosen = [read_value(benchmark, axis, wanted)]
        sweep.append([(axis, value) for value in dict.fromkeys(chosen)])
    for point in itertools.product(*sweep):
        yield dict(point)


def read_value(benchmark: Benchmark, axis: str, text: str) -> ParamValue:
    """A value as the axis holds it: any number on an axis of numbers, a declared word otherwise."""
    declared = benchmark.known_axes[axis]
    example = declared[0]
    if any(isinstance(value, str | bool) for value in declared):
        known = {format_value(value): value for value in declared}
        if text not in known:
            raise UsageError(unknown(f"value of {benchmark.name}'s axis {axis!r}:", text, known))
        return known[text]
    whole = all(isinstance(value, int) for value in declared)
    try:
        number = int(text) if whole else float(text)
        if not abs(number) <= sys.float_info.max:
            raise ValueError
    except ValueError:
        kind = "a whole number" if whole else "a number"
        raise UsageError(
            f"{benchmark.name}'s axis {axis!r} takes {kind}, e.g. {axis}={example}, not {text!r}"
        ) from None
    counts = whole and all(value > 0 for value in declared if not isinstance(value, str))
    if number <= 0 and (counts or axis == benchmark.size):
        raise UsageError(f"{benchmark.name}'s axis {axis!r} must be positive, not {text}")
    return number


def _unknown_axis(axis: str, benchmarks: Iterable[Benchmark]) -> str:
    known = {name for benchmark in benchmarks for name in benchmark.known_axes}
    return unknown("axis", axis, known)


def find_targets(
    devices: Sequence[Device],
    wanted: Sequence[str],
    frameworks: Sequence[str],
    threads: Sequence[int],
) -> list[Target]:
    """The targets that --device, --framework and --threads mean, of the devices that there are.

    A device is wanted by its id (``torch:cuda:0``), its address (``cuda:0``), its kind (``cuda``), or
    as ``gpu`` for anything that is not a CPU.
    """
    matching = [device for device in devices if not frameworks or device.framework in frameworks]
    if wanted:
        for word in wanted:
            if not any(_is_meant(device, word) for device in matching):
                names = {device.id for device in matching} | {device.address for device in matching}
                raise UsageError(
                    unknown("device", word, names, "`devbench detect` shows what there is and why")
                )
        matching = [d for d in matching if any(_is_meant(d, word) for word in wanted)]
    return [
        Target(device.framework, (device.address,), count)
        for device in matching
        for count in (threads or (None,))
    ]


def _is_meant(device: Device, word: str) -> bool:
    word = word.lower()
    names = (device.id.lower(), device.address.lower(), device.kind.lower())
    return word in names or (word == "gpu" and not device.is_cpu)


def make_cases(
    chosen: Sequence[tuple[Benchmark, Pattern]],
    targets: Sequence[Target],
    overrides: Mapping[str, Sequence[str]],
    quick: bool,
) -> tuple[Case, ...]:
    """All cases, each once, in the order of the declarations.

    Raises UsageError for a --param that no chosen benchmark has, NothingMeasured when nothing is
    left.
    """
    for axis in overrides:
        if not any(axis in benchmark.known_axes for benchmark, _ in chosen):
            raise UsageError(_unknown_axis(axis, (benchmark for benchmark, _ in chosen)))
    cases: dict[str, Case] = {}
    for benchmark, pattern in chosen:
        for params in expand(benchmark, pattern, overrides, quick):
            work = benchmark.work(params)
            for target in _widened(targets, params):
                if target.framework not in benchmark.builders or not _has_mode(target, params):
                    continue
                if not fnmatchcase(str(target), pattern.target):
                    continue
                case = Case(benchmark.suite, benchmark.name, tuple(params.items()), target, work)
                cases.setdefault(case.id, case)
    if not cases:
        raise NothingMeasured(
            "the selection leaves nothing to measure: no case matches "
            f"{', '.join(pattern.target for _, pattern in chosen if pattern.target != '*') or 'it'} on "
            f"{', '.join(map(str, targets)) or 'no device'}"
        )
    return tuple(cases.values())


def cases_meant(
    catalog: Catalog,
    select: Sequence[str],
    targets: Sequence[Target],
    overrides: Mapping[str, Sequence[str]],
) -> list[Case]:
    """The short sweeps of what the words of SELECT mean in a catalog that may have none of it.

    A word, an axis or a value that is not there means nothing here, where it was meant for another.
    """
    cases: dict[str, Case] = {}
    for word in select or ("*",):
        try:
            chosen = choose(catalog, [word])
        except UsageError:
            continue
        for one in chosen:
            own = {axis: words for axis, words in overrides.items() if axis in one[0].known_axes}
            try:
                cases |= {case.id: case for case in make_cases([one], targets, own, quick=True)}
            except (UsageError, NothingMeasured):
                continue
    return list(cases.values())


def _widened(targets: Sequence[Target], params: Mapping[str, ParamValue]) -> list[Target]:
    """The targets at that point: with an axis `world_size`, as many devices of a kind together.

    Fewer where there are not so many, which the benchmark then says. A CPU is one device however many
    ranks share it.
    """
    world = params.get("world_size")
    if world is None:
        return list(targets)
    kinds: dict[tuple[str, str, int | None], list[str]] = {}
    for target in targets:
        for address in target.devices:
            kind = target.framework, address.split(":")[0].lower(), target.threads
            kinds.setdefault(kind, []).append(address)
    return [
        Target(framework, tuple(addresses[: 1 if kind == "cpu" else int(world)]), threads)
        for (framework, kind, threads), addresses in kinds.items()
    ]


def _has_mode(target: Target, params: Mapping[str, ParamValue]) -> bool:
    """A way of executing that a framework does not have makes no case of it."""
    framework = frameworks().get(target.framework)
    return framework is None or params.get("mode", framework.modes[0]) in framework.modes


def series(case: Case, size: str | None) -> tuple[str, ...]:
    """What a case shares with its smaller and larger variants on the same target."""
    rest = [f"{name}={format_value(value)}" for name, value in case.params if name != size]
    return (case.benchmark, str(case.target), *rest)


def order(
    cases: Sequence[Case], sizes: Mapping[str, str | None], round_: int, seed: int
) -> list[Case]:
    """The order in which a worker visits its cases in a round.

    Seeded and random, so that drift of the machine spreads over the cases. In the first round the
    sizes of a series come in ascending order all the same: a small one predicts whether a large one
    is worth its time, and memory runs out on the smallest first.
    """
    rng = random.Random(f"{seed}:{round_}")
    shuffled = list(cases)
    rng.shuffle(shuffled)
    if round_ > 0:
        return shuffled
    waiting: dict[tuple[str, ...], list[Case]] = {}
    for case in shuffled:
        waiting.setdefault(series(case, sizes[case.benchmark]), []).append(case)
    for (benchmark, *_), members in waiting.items():
        size = sizes[benchmark]
        if size is not None:
            members.sort(key=lambda case: float(dict(case.params)[size]))
    return [waiting[series(case, sizes[case.benchmark])].pop(0) for case in shuffled]
