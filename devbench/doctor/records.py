"""What a diagnosis says, as frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal

from devbench.model import Json

Severity = Literal["error", "warning", "info"]
Confidence = Literal["certain", "likely", "possible"]

#: The most serious first.
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "info")

SCHEMA: Final = "devbench.doctor/1"


class CouldNotCheck(Exception):
    """Raised by a fact that is not known here. The message says why, without a full stop."""


@dataclass(frozen=True, slots=True)
class Fix:
    """One way out: what it does, and the commands for this machine in their order."""

    text: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    says: a sentence that names the cause. evidence: what was read, and where. fixes: ways out, the
    best first. gpus: physical names of the devices that it is about, framework: the one that it is
    about (none: it is about the machine).
    """

    id: str
    severity: Severity
    says: str
    evidence: tuple[str, ...]
    fixes: tuple[Fix, ...]
    confidence: Confidence = "certain"
    gpus: tuple[str, ...] = ()
    framework: str | None = None

    @property
    def page(self) -> str:
        """Its documentation, from the root of the project; `devbench doctor explain ID` prints it."""
        return f"docs/doctor/{self.id}.md"


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A check that could not be made, for what, and why."""

    id: str
    reason: str
    gpus: tuple[str, ...] = ()
    framework: str | None = None


State = Literal["holds", "broken", "unknown", "not reached"]


@dataclass(frozen=True, slots=True)
class Link:
    """One link of a chain. because: what was seen, or the finding that breaks it."""

    name: str
    state: State
    because: str = ""


@dataclass(frozen=True, slots=True)
class Chain:
    """The way from one GPU to a kernel of one framework on it, up to the first broken link."""

    gpu: str
    gpu_name: str
    framework: str
    links: tuple[Link, ...]

    @property
    def broken(self) -> Link | None:
        return next((link for link in self.links if link.state == "broken"), None)

    @property
    def works(self) -> bool:
        return self.links[-1].state == "holds"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """findings: the most serious first. summary: what each framework makes of each GPU, in words."""

    findings: tuple[Finding, ...]
    unchecked: tuple[Unchecked, ...]
    chains: tuple[Chain, ...]
    summary: tuple[str, ...]

    def counts(self) -> Mapping[Severity, int]:
        return {
            severity: sum(finding.severity == severity for finding in self.findings)
            for severity in SEVERITIES
        }

    def exit_code(self, strict: bool = False) -> int:
        """1 where there is an error; with `strict` a warning counts too. What is only said does not."""
        counts = self.counts()
        return int(counts["error"] > 0 or (strict and counts["warning"] > 0))


def to_json(diagnosis: Diagnosis) -> dict[str, Json]:
    return {
        "schema": SCHEMA,
        "summary": list(diagnosis.summary),
        "findings": [asdict(one) | {"page": one.page} for one in diagnosis.findings],
        "unchecked": [asdict(one) for one in diagnosis.unchecked],
        "chains": [asdict(one) | {"works": one.works} for one in diagnosis.chains],
    }
