"""What differs between two sides besides the code: said first, since it may be the whole difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from devbench.model import Json, RunInfo

#: ``blocks``: what was timed on the two sides cannot be compared at all; ``matters``: it may by itself
#: make the figures differ; ``noted``: it is what a comparison is usually about, or tells where it is from.
Severity = Literal["blocks", "matters", "noted"]
SEVERITIES: Final[tuple[Severity, ...]] = ("blocks", "matters", "noted")

Facts = Mapping[str, Json]

_BLOCKS: Final = ("physical_device", "device_name")
_NOTED: Final = frozenset({"file", "git commit", "uncommitted changes", "host", "argv"})

#: Facts of a target that name the device or decide its speed, in the order in which they are said.
_OF_A_TARGET: Final = (*_BLOCKS, "driver", "framework_version", "threads", "mode", "file")
_OF_THE_HOST: Final = (
    "cpu_model",
    "usable_cores",
    "usable_cpus",
    "cpu_limit",
    "usable_memory_bytes",
    "governor",
    "turbo",
    "os",
    "kernel",
    "container",
    "virtual_machine",
)
#: Settings of a run that decide what a figure is; how many rounds there were shows in the interval.
_OF_THE_SETTINGS: Final = ("quick", "seed", "share_s", "warmup_s", "precision")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not the same on both sides.

    scope: the target that it concerns, or None for the whole of a side. base, new: as text, None where
    that side does not say.
    """

    severity: Severity
    scope: str | None
    what: str
    base: str | None
    new: str | None


def facts_of(info: RunInfo) -> dict[str, Json]:
    """What a run says of its surroundings that may change a time, by name."""
    environment = info.environment
    host = _mapping(_mapping(environment.get("machine")).get("host"))
    git = _mapping(environment.get("git"))
    return {
        "devbench": info.devbench_version,
        "python": environment.get("python"),
        "host": host.get("hostname"),
        **{name.replace("_", " "): host.get(name) for name in _OF_THE_HOST},
        **{f"{name} of the run": info.settings.get(name) for name in _OF_THE_SETTINGS},
        **_mapping(environment.get("variables")),
        "git commit": git.get("commit"),
        "uncommitted changes": git.get("dirty"),
    }


def target_facts_of(info: RunInfo) -> dict[str, dict[str, Json]]:
    """The same of each target: its device, driver, framework, math settings and environment."""
    targets = _mapping(info.environment.get("targets"))
    return {str(target): _target(_mapping(facts)) for target, facts in targets.items()}


def _target(facts: Facts) -> dict[str, Json]:
    nested = {
        f"{group} {name}" if group == "build" else name: value
        for group in ("build", "settings", "variables")
        for name, value in _mapping(facts.get(group)).items()
    }
    return {name: facts.get(name) for name in _OF_A_TARGET if name in facts} | nested


def differences(
    base: Facts,
    new: Facts,
    base_targets: Mapping[str, Facts],
    new_targets: Mapping[str, Facts],
) -> tuple[Difference, ...]:
    """What differs between two sides and between the targets that both have, the gravest first.

    A device is another one where either its physical id or its name differs; where a side does not
    say what its device is, that matters but blocks nothing.
    """
    found = [*_between(None, base, new)]
    for target in base_targets.keys() & new_targets.keys():
        found += _between(target, base_targets[target], new_targets[target])
    rank = {severity: place for place, severity in enumerate(SEVERITIES)}
    return tuple(sorted(found, key=lambda one: (rank[one.severity], one.scope or "")))


def decides_yardsticks(name: str, *, of_a_target: bool) -> bool:
    """Whether a fact decides how fast a yardstick is, as it may decide it for a case: two yardsticks of
    which it is not the same do not tell the drift of the machine.

    Of a target all that is set up does, and of a whole side the version of devbench and the environment
    variables. The modes do not: they are those of the cases that the run has.
    """
    if of_a_target:
        return name not in _NOTED and name != "mode"
    return name == "devbench" or _is_variable(name)


def blocked(found: Sequence[Difference]) -> dict[str, str]:
    """The targets that cannot be compared, each with why."""
    return {
        one.scope: f"another device: {one.base} on the base, {one.new} now"
        for one in reversed(found)
        if one.severity == "blocks" and one.scope is not None
    }


def _between(scope: str | None, base: Facts, new: Facts) -> Iterator[Difference]:
    for name in dict.fromkeys((*base, *new)):
        one, other = _text(base.get(name)), _text(new.get(name))
        if one == other:
            continue
        severity: Severity = "matters"
        if name in _BLOCKS and one is not None and other is not None:
            severity = "blocks"
        elif name in _NOTED:
            severity = "noted"
        yield Difference(severity=severity, scope=scope, what=_word(name), base=one, new=other)


def _word(name: str) -> str:
    """A field's name as words; an environment variable's as it is."""
    return name if _is_variable(name) else name.replace("_", " ")


def _is_variable(name: str) -> bool:
    """Whether it is an environment variable, and no field of devbench's own."""
    return not name.islower()


def _text(value: Json) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _mapping(value: Json) -> Facts:
    """A part of the environment; an imported run may come from a version that had none."""
    return value if isinstance(value, Mapping) else {}
