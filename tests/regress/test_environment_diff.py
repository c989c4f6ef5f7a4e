from __future__ import annotations

from typing import Any

from devbench.regress.environment_diff import (
    Difference,
    blocked,
    differences,
    facts_of,
    target_facts_of,
)
from tests.regress.factory import make_case, make_run


def between(base: dict[str, Any], new: dict[str, Any]) -> list[Difference]:
    """What differs between two runs, each given as arguments of `make_run`."""
    infos = [make_run("x", {make_case(): []}, **side).info for side in (base, new)]
    return [*differences(*map(facts_of, infos), *map(target_facts_of, infos))]


def test_equal_surroundings_differ_in_nothing() -> None:
    assert between({}, {}) == []


def test_the_device_blocks_what_decides_speed_matters_the_rest_is_noted() -> None:
    found = between(
        {},
        {
            "target_facts": {
                "physical_device": "GPU-1",
                "driver": "600.1",
                "framework_version": "2.14.0",
                "threads": 1,
                "settings": {"cudnn_allow_tf32": True},
                "build": {"cuda": "13.0"},
            },
            "environment": {
                "git": {"commit": "b" * 40, "dirty": True},
                "python": "3.13.1",
                "variables": {"OMP_PROC_BIND": "true"},
                "machine": {"host": {"hostname": "b", "cpu_model": "B", "usable_cores": 4}},
            },
            "devbench_version": "0.2.0",
            "settings": {"rounds": 9, "quick": True},
        },
    )
    assert [(one.severity, one.what) for one in found] == [
        ("blocks", "physical device"),
        ("matters", "devbench"),
        ("matters", "python"),
        ("matters", "cpu model"),
        ("matters", "usable cores"),
        ("matters", "quick of the run"),
        ("matters", "OMP_PROC_BIND"),
        ("matters", "driver"),
        ("matters", "framework version"),
        ("matters", "threads"),
        ("matters", "cudnn allow tf32"),
        ("matters", "build cuda"),
        ("noted", "host"),
        ("noted", "git commit"),
        ("noted", "uncommitted changes"),
    ]
    told = {one.what: one for one in found}
    assert (told["driver"].scope, told["driver"].base, told["driver"].new) == (
        "torch:cpu",
        None,
        "600.1",
    )
    assert (told["cudnn allow tf32"].base, told["cudnn allow tf32"].new) == ("no", "yes")
    assert blocked(found) == {"torch:cpu": "another device: cpu on the base, GPU-1 now"}


def test_a_device_that_one_side_does_not_name_matters_but_blocks_nothing() -> None:
    (found,) = between({"target_facts": {"device_name": None}}, {})
    assert (found.severity, found.base, found.new) == ("matters", None, "A CPU")
    assert blocked([found]) == {}


def test_targets_that_only_one_side_has_are_not_compared() -> None:
    here, there = (
        make_run("x", {make_case(framework=name): []}).info for name in ("torch", "tensorflow")
    )
    assert differences({}, {}, target_facts_of(here), target_facts_of(there)) == ()


def test_a_run_that_says_nothing_of_its_surroundings_is_read() -> None:
    silent = make_run("x", {}, environment={"targets": None, "git": None, "machine": 3}).info
    assert facts_of(silent)["git commit"] is None
    assert target_facts_of(silent) == {}
