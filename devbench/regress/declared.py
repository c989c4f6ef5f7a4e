"""``python -P -m devbench.regress.declared``: tells what the suites of one side declare.

A process of its own, since they import that side's code. It answers one message with the names of all
benchmarks in `sources` and with the cases among them that are meant; `benchmarks` is None where a suite
cannot be loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from devbench import registry
from devbench.errors import UsageError
from devbench.model import Json, Target
from devbench.plan import cases_meant
from devbench.protocol import Message, claim_stdout, decode, encode


def answer(message: Message) -> dict[str, Any]:
    """The fields of the answer. message: sources, select, overrides and targets, as JSON."""
    sources = [registry.Source.from_json(one) for one in message["sources"]]
    try:
        loaded = [one for source in sources for one in registry.load_suite(source)]
    except UsageError as error:
        print(error, file=sys.stderr)
        return {"benchmarks": None, "cases": []}
    catalog = registry.Catalog(
        {one.name: one for one in loaded}, {source.suite: source for source in sources}, ()
    )
    targets = [Target.from_json(one) for one in message["targets"]]
    return {
        "benchmarks": list(catalog.benchmarks),
        "cases": list(_cases(catalog, message["select"], targets, message["overrides"])),
    }


def _cases(
    catalog: registry.Catalog,
    select: list[str],
    targets: list[Target],
    overrides: Mapping[str, list[str]],
) -> Iterator[Json]:
    for case in cases_meant(catalog, select, targets, overrides):
        yield {
            "suite": case.suite,
            "benchmark": case.benchmark,
            "params": dict(case.params),
            "target": case.target.to_json(),
            "work": asdict(case.work),
        }


def main() -> None:
    out = claim_stdout()
    out.write(encode("declared", **answer(decode(sys.stdin.readline()))))
    out.flush()


if __name__ == "__main__":
    main()
