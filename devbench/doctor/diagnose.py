"""From a recording to a diagnosis: every check for each GPU and framework that it is about.

The checks of the chain are made in the order of its links, and no further than the first that is broken:
without a driver it does not matter for which CUDA torch was built. torch and TensorFlow have a chain
each, on the same GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from devbench.doctor.checks import Found
from devbench.doctor.facts import Facts, gather
from devbench.doctor.fixes import for_this_user
from devbench.doctor.gpus import GpuFacts
from devbench.doctor.recording import FrameworkRecord, Recording
from devbench.doctor.records import (
    SEVERITIES,
    Chain,
    CouldNotCheck,
    Diagnosis,
    Finding,
    Link,
    Unchecked,
)
from devbench.doctor.table import CHECKS, LINKS, Check


def diagnose(recording: Recording) -> Diagnosis:
    """What is wrong with the machine. A driver that answers nonsense is one that does not answer."""
    try:
        facts = gather(recording)
    except CouldNotCheck as why:
        facts = gather(replace(recording, calls={"nvmlInit()": {"error": str(why)}}, frameworks=()))
    made = _Made(facts)
    chains = tuple(
        _chain(facts, made, framework, gpu)
        for gpu in facts.gpus
        for framework in facts.frameworks
        if framework.answer.status != "missing"
    )
    if not chains:
        _up_to_the_first_broken(facts, made)
    for check in CHECKS:
        if check.link is None or check.id == "D08":
            for subject in _subjects(facts, check):
                made.run(check, *subject)
    findings = sorted(
        _merged(made.findings), key=lambda one: (SEVERITIES.index(one.severity), one.id)
    )
    unchecked = sorted(_merged(made.unchecked), key=lambda one: one.id)
    return Diagnosis(tuple(findings), tuple(unchecked), chains, tuple(_summary(facts, chains)))


_About = TypeVar("_About", Finding, Unchecked)


def _merged(about: list[_About]) -> Iterator[_About]:
    """What is said alike of several GPUs is said once, of all of them."""
    same: dict[_About, list[str]] = {}
    for one in about:
        same.setdefault(replace(one, gpus=()), []).extend(one.gpus)
    return (replace(one, gpus=tuple(dict.fromkeys(gpus))) for one, gpus in same.items())


@dataclass(slots=True)
class _Made:
    """What the checks made so far have found; each is made once for one subject."""

    facts: Facts
    findings: list[Finding] = field(default_factory=list)
    unchecked: list[Unchecked] = field(default_factory=list)
    _known: dict[tuple[str, str | None, tuple[str, ...]], tuple[Finding, ...]] = field(
        default_factory=dict
    )

    def run(
        self, check: Check, framework: FrameworkRecord | None, gpu: GpuFacts | None
    ) -> tuple[Finding, ...]:
        """The findings of one check. What could not be checked is noted."""
        name = None if framework is None else framework.name
        where = () if gpu is None else (gpu.physical,)
        key = (check.id, name, where)
        if key not in self._known:
            subject = [one for one in (framework, gpu) if one is not None]
            found: list[Finding] = []
            try:
                for one in check.run(self.facts, *subject):
                    found.append(_finding(self.facts, check, one, name, where))
            except CouldNotCheck as why:
                self.unchecked.append(Unchecked(check.id, str(why), where, name))
            self._known[key] = tuple(found)
            self.findings += found
        return self._known[key]


def _finding(
    facts: Facts, check: Check, found: Found, framework: str | None, gpus: tuple[str, ...]
) -> Finding:
    return Finding(
        id=check.id,
        severity=found.severity,
        says=found.says,
        evidence=found.evidence,
        fixes=tuple(for_this_user(facts, fix) for fix in found.fixes),
        confidence=found.confidence,
        gpus=gpus,
        framework=framework,
    )


def _subjects(
    facts: Facts, check: Check
) -> Iterator[tuple[FrameworkRecord | None, GpuFacts | None]]:
    """What the check is about, where it stands in no chain."""
    if check.scope == "machine":
        yield None, None
    elif check.scope == "framework":
        for framework in facts.frameworks:
            yield framework, None
    else:
        for gpu in facts.gpus:
            if gpu.vendor in check.vendors:
                yield None, gpu


def _chain(facts: Facts, made: _Made, framework: FrameworkRecord, gpu: GpuFacts) -> Chain:
    works = facts.working(framework, gpu)
    links: list[Link] = []
    for name, vendors in LINKS.items():
        if gpu.vendor not in vendors:
            continue
        if any(link.state == "broken" for link in links):
            links.append(Link(name, "not reached"))
            continue
        errors, unknown = _link(facts, made, name, framework, gpu, works)
        if errors:
            links.append(Link(name, "broken", f"{errors[0].id}: {errors[0].says}"))
        elif name == "visibility" and not works and (hidden := _hidden(facts, gpu)):
            links.append(Link(name, "broken", hidden))
        elif unknown and not works:
            links.append(Link(name, "unknown", unknown))
        else:
            links.append(Link(name, "holds", _seen(facts, name, framework, gpu)))
    return Chain(gpu.physical, gpu.name, framework.name, tuple(links))


def _link(
    facts: Facts, made: _Made, link: str, framework: FrameworkRecord, gpu: GpuFacts, works: bool
) -> tuple[list[Finding], str]:
    """The errors that break this link, and why one of its checks could not be made."""
    unknown = ""
    for check in CHECKS:
        if check.link != link or gpu.vendor not in check.vendors:
            continue
        if check.scope.startswith("framework") and works and check.id != "D04":
            continue  # a kernel ran: no inference about the build says more
        before = len(made.unchecked)
        found = made.run(
            check,
            framework if check.scope.startswith("framework") else None,
            gpu if check.scope.endswith("gpu") else None,
        )
        unknown = made.unchecked[-1].reason if len(made.unchecked) > before else unknown
        errors = [one for one in found if one.severity == "error"]
        if errors and not works:
            return errors, unknown
    return [], unknown if link in ("NVML", "kernel") else ""


def _hidden(facts: Facts, gpu: GpuFacts) -> str | None:
    """Whether the user hid this GPU, which is no fault."""
    visible = facts.visible
    if visible is None or gpu.vendor != "nvidia":
        return None
    position = [one.physical for one in facts.gpus if one.vendor == "nvidia"].index(gpu.physical)
    slices = gpu.nvml is not None and bool(gpu.nvml.mig_devices)
    if position in visible.indices or slices:
        return None
    return f"hidden by CUDA_VISIBLE_DEVICES={facts.variables['CUDA_VISIBLE_DEVICES']!r}"


def _seen(facts: Facts, link: str, framework: FrameworkRecord, gpu: GpuFacts) -> str:
    """What shows that a link holds, in a few words."""
    view, name = framework.answer.view, framework.name
    driver = gpu.nvml.driver if gpu.nvml else None
    cuda = facts.recording.calls.get("dlopen(libcuda.so.1)")
    value = facts.variables.get("CUDA_VISIBLE_DEVICES")
    node = next((one.path for one in facts.recording.entries if one.path.startswith("dev/")), None)
    address = next(
        (
            one.address
            for one in facts.machine.devices
            if one.framework == name and one.physical in gpu.names
        ),
        None,
    )
    return {
        "PCI device": gpu.pci.bus_id if gpu.pci else "not shown here",
        "kernel module": (gpu.pci.driver if gpu.pci else None)
        or ("loaded" if facts.driver_module else ""),
        "device node": f"/{node}" if node else "",
        "libcuda": cuda if isinstance(cuda, str) else "",
        "NVML": f"driver {driver}" if driver else "",
        "build": f"{name} {view.version}" if view else "",
        "visibility": "CUDA_VISIBLE_DEVICES not set"
        if value is None
        else f"CUDA_VISIBLE_DEVICES={value}",
        "context": "opened" if facts.working(framework, gpu) else "",
        "kernel": f"ran on {address}" if address else "ran",
    }[link]


def _up_to_the_first_broken(facts: Facts, made: _Made) -> None:
    """Where there is no GPU, or no framework, what can be said of the links is still said."""
    for link in LINKS:
        broken = False
        for check in CHECKS:
            if check.link != link or check.scope == "framework on gpu":
                continue
            if check.scope == "machine" and not _has_driver(facts):
                continue
            for subject in _subjects(facts, check):
                broken |= any(one.severity == "error" for one in made.run(check, *subject))
        if broken and link != "build":  # one framework's import is no matter of the other's
            return


def _has_driver(facts: Facts) -> bool:
    """Whether anything of NVIDIA is here that the links could be about."""
    return bool(facts.gpus) or facts.driver_module or facts.is_wsl


def _summary(facts: Facts, chains: tuple[Chain, ...]) -> Iterator[str]:
    """Sentences that say, framework by framework, what is used and why the rest is not."""
    if not facts.gpus:
        yield "There is no GPU here that these checks know of: the frameworks compute on the CPU."
        return
    for framework in facts.frameworks:
        name = framework.name
        if framework.answer.status == "missing":
            yield f"{name} is not installed."
            continue
        own = [chain for chain in chains if chain.framework == name]
        working = [chain for chain in own if chain.works]
        if len(working) == len(own):
            yield f"{name} computes on {_gpus(own)}."
            continue
        if working:
            yield f"{name} computes on {len(working)} of {len(own)} GPUs."
        reasons: dict[str, list[Chain]] = {}
        for chain in own:
            if not chain.works:
                reasons.setdefault(_why(chain), []).append(chain)
        for reason, stopped in reasons.items():
            yield f"{name} does not compute on {_gpus(stopped)}: {reason}."


def _why(chain: Chain) -> str:
    stopped = chain.broken or chain.links[-1]
    return f"{stopped.because} (link: {stopped.name})"


def _gpus(chains: list[Chain]) -> str:
    names = list(dict.fromkeys(chain.gpu_name for chain in chains))
    if len(chains) == 1:
        return f"the GPU ({names[0]})"
    return f"{len(chains)} GPUs ({', '.join(names)})"
