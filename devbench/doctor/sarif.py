"""A diagnosis as SARIF 2.1.0, for services that collect findings of tools.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

from devbench import __version__
from devbench.doctor.records import Diagnosis, Finding, Unchecked
from devbench.doctor.table import words
from devbench.model import Json

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def to_sarif(diagnosis: Diagnosis) -> Json:
    return {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "devbench doctor",
                        "version": __version__,
                        "rules": [
                            {
                                "id": id,
                                "shortDescription": {"text": told.title},
                                "fullDescription": {"text": told.means},
                                "help": {"text": told.mends},
                            }
                            for id, told in words().items()
                        ],
                    }
                },
                "invocations": [
                    {
                        "executionSuccessful": True,
                        "toolExecutionNotifications": [
                            _could_not_check(one) for one in diagnosis.unchecked
                        ],
                    }
                ],
                "results": [_result(finding) for finding in diagnosis.findings],
            }
        ],
    }


def _result(finding: Finding) -> Json:
    return {
        "ruleId": finding.id,
        "ruleIndex": list(words()).index(finding.id),
        "level": _LEVELS[finding.severity],
        "message": {"text": "\n".join((finding.says, *finding.evidence, *_fixes(finding)))},
        "locations": [_place(finding)],
        "properties": {"confidence": finding.confidence},
    }


def _could_not_check(one: Unchecked) -> Json:
    return {
        "associatedRule": {"id": one.id, "index": list(words()).index(one.id)},
        "level": "note",
        "message": {"text": f"could not check: {one.reason}"},
        "locations": [_place(one)],
    }


def _place(about: Finding | Unchecked) -> Json:
    where = "/".join(filter(None, (about.framework, ",".join(about.gpus)))) or "machine"
    return {"logicalLocations": [{"fullyQualifiedName": where, "kind": "resource"}]}


def _fixes(finding: Finding) -> list[str]:
    return [": ".join(filter(None, (fix.text, "; ".join(fix.commands)))) for fix in finding.fixes]
