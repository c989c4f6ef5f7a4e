"""The one framework that a pytest process holds, and the devices that it sees.

torch and TensorFlow in one process can crash or hang by import order alone, so a process that times
one of them must not import the other: neither by choice nor by accident.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, NoReturn

import pytest

import devbench
from devbench import registry
from devbench.detection import join, physical_devices, read_hardware, why_unseen
from devbench.detection.records import FrameworkAnswer, Machine
from devbench.environment import allowed_variables
from devbench.errors import UsageError, unknown
from devbench.frameworks.base import Framework
from devbench.measure.cache import last_level_cache
from devbench.measure.yardstick import Yardstick, Yardsticks
from devbench.model import Device, Json, Work
from devbench.plan import find_targets


@dataclass(frozen=True, slots=True)
class Refusal:
    """In place of a device: why the test fails, or is skipped, instead of running. id: as it stands in the
    name of the test."""

    reason: str
    id: str = "refused"


class _Missing(Exception):
    """Something that was not required is not there: the test is skipped, with this sentence."""


class OtherFramework(ModuleNotFoundError):
    """An import of a framework that this process must not hold beside its own."""


def holding(config: pytest.Config, asked: str | None = None) -> Holding:
    """What this session holds; made when it is first asked for. asked: the framework that the command line
    names, where that is not yet among the options."""
    found: Holding | None = config.pluginmanager.get_plugin("devbench-holding")
    if found is None:
        found = Holding(config, asked or config.getoption("devbench_framework"))
        config.pluginmanager.register(found, "devbench-holding")
    return found


class Holding:
    """Decided once, by the first test that needs a device, and kept to the end of the session.

    asked: the framework that the command line names.
    """

    def __init__(self, config: pytest.Config, asked: str | None) -> None:
        self._config = config
        self._asked = asked
        self._frameworks = registry.frameworks()
        if self._asked is not None and self._asked not in self._frameworks:
            raise pytest.UsageError(unknown("framework", self._asked, self._frameworks))
        self._framework: Framework | None = None
        self._machine: Machine | None = None
        self._refuses = False
        self._yardsticks: dict[str, Yardsticks] = {}

    @property
    def _wanted(self) -> list[str]:
        wanted: list[str] | None = self._config.getoption("devbench_device")
        return wanted or []

    @property
    def is_in_use(self) -> bool:
        return self._machine is not None

    @property
    def framework(self) -> Framework:
        assert self._framework is not None
        return self._framework

    @property
    def machine(self) -> Machine:
        assert self._machine is not None
        return self._machine

    def params(self, test: pytest.Item) -> list[Any]:
        """The devices that a test runs on, or why it does not, as params of ``devbench_device``."""
        try:
            return self._params(_needs(test))
        except UsageError as error:
            return [_param(Refusal(str(error)))]
        except _Missing as error:
            return [_param(Refusal(str(error), "missing"), skipped=True)]

    def _params(self, needs: Mapping[str, str]) -> list[Any]:
        name = self._hold(needs.get("framework"))
        devices = self._among(self.machine.devices, self._wanted)
        if "device" in needs:
            try:
                devices = self._among(devices, [needs["device"]])
            except UsageError as error:
                raise _Missing(f"this test needs another device: {error}") from None
        found = [pytest.param(one.id, id=one.id) for one in devices]
        if not self._wanted and not needs:
            found += [
                _param(Refusal(reason, f"{name}:{gpu}"), skipped=True)
                for gpu, reason in self._unseen()
            ]
        return found

    def _hold(self, asked: str | None) -> str:
        """The name of the framework of this process, which the first test decides."""
        if asked is not None and asked not in self._frameworks:
            raise UsageError(unknown("framework", asked, self._frameworks))
        if self._framework is None:
            framework = self._choose(asked)
            self.refuse_others(framework.name)
            try:
                framework.adopt()
            except Exception as error:
                raise UsageError(f"{framework.name} does not start: {error}") from error
            self._machine = _look(framework)
            self._framework = framework
        if asked not in (None, self._framework.name):
            raise _Missing(
                f"this process holds {self._framework.name}, and {asked} has one of its own: "
                f"pytest --devbench-framework {asked}"
            )
        return self._framework.name

    def _choose(self, asked: str | None) -> Framework:
        """asked: by the test. Raises UsageError where what is required is not there, _Missing where a test
        would only like it."""
        known = self._frameworks
        imported = [one for one in known.values() if one.module in sys.modules]
        if len(imported) > 1:
            raise UsageError(_crowded([one.name for one in imported]))
        if imported:
            (found,) = imported
            if self._asked not in (None, found.name):
                raise UsageError(
                    f"{found.name} is imported in this process already, and {self._asked} beside it could "
                    f"crash or hang it: leave its import out of the plugins, or run the tests of "
                    f"{found.name}: pytest --devbench-framework {found.name}"
                )
            return found
        installed = [one for one in known.values() if registry.is_installed(one)]
        if self._asked is not None:
            if known[self._asked] not in installed:
                raise UsageError(_absent(known[self._asked]))
            return known[self._asked]
        if not installed:
            told = "; ".join(_absent(one) for one in known.values())
            raise UsageError(told) if self._wanted else _Missing(told)
        if asked is not None:
            if known[asked] not in installed:
                raise _Missing(_absent(known[asked]))
            return known[asked]
        if len(installed) > 1:
            names = [one.name for one in installed]
            raise UsageError(
                f"{' and '.join(names)} are installed, and a pytest process holds one of them: "
                f"pytest --devbench-framework {names[0]}"
            )
        return installed[0]

    def _among(self, devices: Sequence[Device], words: Sequence[str]) -> list[Device]:
        """The devices that words such as ``gpu`` mean. Raises UsageError for one that means none."""
        targets = find_targets(devices, words, (), ())
        meant = {address for target in targets for address in target.devices}
        return [device for device in devices if device.address in meant]

    def _unseen(self) -> list[tuple[str, str]]:
        """GPUs of this machine that the framework does not see, with why."""
        answer = self.machine.frameworks[0]
        return [
            (str(physical.name), f"{answer.name} {why_unseen(answer)}")
            for physical in physical_devices(self.machine)
            if physical.physical != "cpu" and not physical.devices
        ]

    def refuse_others(self, name: str | None = None) -> None:
        """Refuse them from now on to the end of the session, where it is known whose it is."""
        held = name or self._asked
        if not self._refuses and held is not None:
            self._refuses = True
            self._config.add_cleanup(refuse_others(held))

    def check_alone(self) -> None:
        """Fails the test where the other framework got in before anybody watched."""
        if self._framework is None:
            return
        imported = [one.name for one in self._frameworks.values() if one.module in sys.modules]
        if len(imported) > 1:
            pytest.fail(_crowded(imported), pytrace=False)

    def device(self, device_id: str) -> Device:
        return next(device for device in self.machine.devices if device.id == device_id)

    def address(self, device_id: str) -> str:
        return self.framework.device(self.device(device_id).address)

    def yardstick(self, address: str) -> Yardstick:
        """The fixed step of a device, by which the machine's drift is told from a test's."""
        if address not in self._yardsticks:
            cache = self.framework.cache_bytes(address) or last_level_cache()
            self._yardsticks[address] = Yardsticks(self.framework, address, cache)
        return self._yardsticks[address].beside(Work())

    def facts(self, device_id: str) -> dict[str, Json]:
        """What stands beside a figure: under these names `devbench compare` looks for them."""
        device = self.device(device_id)
        view = self.machine.frameworks[0].view
        assert view is not None
        gpu = next((gpu for gpu in self.machine.gpus if gpu.uuid == device.physical), None)
        return {
            "target": device.id,
            "framework": device.framework,
            "framework_version": view.version,
            "physical_device": device.physical,
            "device_name": device.name,
            "driver": gpu.driver if gpu else None,
            # TensorFlow answers 0 for: as many as it likes.
            "threads": self.framework.settings().get("intraop_threads") or None,
        }

    def machine_info(self) -> dict[str, Json]:
        """What stands once a file of pytest-benchmark."""
        view = self.machine.frameworks[0].view
        assert view is not None
        host = self.machine.host
        return {
            "version": devbench.__version__,
            "framework": view.name,
            "framework_version": view.version,
            "build": dict(view.build),
            "settings": dict(self.framework.settings()),
            "devices": {device.id: device.name for device in self.machine.devices},
            "driver": next((gpu.driver for gpu in self.machine.gpus), None),
            "cpu_model": host.cpu_model,
            "usable_cores": host.usable_cores,
            "usable_cpus": host.usable_cpus,
            "cpu_limit": host.cpu_limit,
            "variables": allowed_variables(os.environ),
        }


def refuse_others(held: str) -> Callable[[], None]:
    """From now on an import of another framework than this is an error that says why. Returns what ends
    that."""
    known = registry.frameworks().values()
    refuser = _Refuser(held, frozenset(one.module for one in known if one.name != held))
    sys.meta_path.insert(0, refuser)
    return partial(sys.meta_path.remove, refuser)


class _Refuser(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the other frameworks, so that whoever only asks whether they are installed gets his answer,
    and refuses to load them."""

    def __init__(self, held: str, modules: frozenset[str]) -> None:
        self._held = held
        self._modules = modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._modules:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> NoReturn:
        raise OtherFramework(
            f"this pytest process holds {self._held}, and {spec.name} beside it could crash or hang it; "
            f"{spec.name}'s tests have a process of their own: pytest --devbench-framework {spec.name}",
            name=spec.name,
        )

    def exec_module(self, module: ModuleType) -> None:
        raise AssertionError("no module was created")


def _param(refusal: Refusal, *, skipped: bool = False) -> Any:
    marks = [pytest.mark.skip(reason=refusal.reason)] if skipped else []
    return pytest.param(refusal, id=refusal.id, marks=marks)


def _needs(test: pytest.Item) -> Mapping[str, str]:
    """What the marker ``devbench`` of a test asks for. Raises UsageError for what it does not know."""
    marker = test.get_closest_marker("devbench")
    if marker is None:
        return {}
    if marker.args or not marker.kwargs.keys() <= {"framework", "device"}:
        raise UsageError("the marker reads devbench(framework=NAME, device=NAME), either or both")
    return marker.kwargs


def _look(framework: Framework) -> Machine:
    view = framework.describe()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    answer = FrameworkAnswer(name=framework.name, status="ok", view=view, visible_devices=visible)
    return join(read_hardware(), [answer])


def _absent(framework: Framework) -> str:
    return f"{framework.name} is not installed: pip install 'devbench[{framework.extra}]'"


def _crowded(names: Sequence[str]) -> str:
    return (
        f"{' and '.join(names)} are both imported in this process, where they can crash or hang each other; "
        f"give each its own: pytest --devbench-framework {names[0]} with the tests of {names[0]}"
    )
