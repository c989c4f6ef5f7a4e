"""The child process of one target: it answers the runner's messages until its input ends.

``python -P -m devbench.worker`` serves a framework, or, asked for references only, none at all.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import statistics
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from devbench import registry
from devbench.declare import Benchmark
from devbench.errors import DeclarationError, DevbenchError
from devbench.frameworks.base import Framework
from devbench.measure import binding
from devbench.measure.bench import Bench
from devbench.measure.cache import last_level_cache
from devbench.measure.ceilings import CeilingMeter
from devbench.measure.check import write_reference
from devbench.measure.known import device_readings
from devbench.measure.sampling import Limits, clock_tick
from devbench.measure.visit import Warm, closing, describe_error, outcome, visit, warmed_up
from devbench.measure.yardstick import Yardsticks
from devbench.model import Target, dtype
from devbench.protocol import Message, ProtocolError, claim_stdout, decode, encode


def main() -> None:
    Worker(claim_stdout()).serve(_messages(sys.stdin))


def _messages(lines: TextIO) -> queue.SimpleQueue[Message]:
    """Messages as they come, read by a thread that ends the process when the runner is gone.

    The main thread may be inside a step for minutes; a runner that was killed must not leave it
    behind. The thread waits in the kernel and costs the step nothing.
    """
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def read() -> None:
        try:
            for line in lines:
                messages.put(decode(line))
        except ProtocolError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(2)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return messages


@dataclass(frozen=True, slots=True)
class Held:
    """A case between `hold` and `drop`."""

    bench: Bench
    warm: Warm
    keeping: ExitStack


class Worker:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._suites: dict[str, dict[str, Benchmark]] = {}
        self._framework: Framework | None = None
        self._target: Target | None = None
        self._threads = 1
        self._yardsticks: Yardsticks | None = None
        self._held: Held | None = None
        self._tick_s = clock_tick()
        self._bystanders: frozenset[int] = frozenset()
        self._modules = 0

    def serve(self, messages: queue.SimpleQueue[Message]) -> None:
        while True:
            message = messages.get()
            match message["type"]:
                case "start":
                    self._start(message)
                case "describe":
                    self._describe(message)
                case "measure":
                    self._measure(message)
                case "reference":
                    self._reference(message)
                case "hold":
                    self._hold(message)
                case "burst":
                    self._burst(message)
                case "drop":
                    self._drop()
                case "ceilings":
                    self._ceilings(message)
                case "selftest":
                    self._selftest(message)

    def _send(self, kind: str, **fields: Any) -> None:
        self._out.write(encode(kind, **fields))
        self._out.flush()

    def _start(self, message: Message) -> None:
        target = Target.from_json(message["target"])
        framework = registry.frameworks()[target.framework]
        self._bystanders = binding.bystanders()
        start = time.perf_counter()
        try:
            framework.start(target, message["threads"])
        except Exception as error:  # noqa: BLE001  # a framework that will not import is an answer
            self._send("failed", detail=describe_error(error))
            return
        import_s = time.perf_counter() - start
        self._freeze_imports()
        self._framework, self._target, self._threads = framework, target, message["threads"]
        address = target.devices[0]
        cache = framework.cache_bytes(address) or last_level_cache(self._threads)
        self._yardsticks = Yardsticks(framework, address, cache)
        view = framework.describe()
        self._send(
            "ready",
            version=view.version,
            file=view.file,
            build=dict(view.build),
            settings=dict(framework.settings()),
            import_s=import_s,
            threads_used=threads_used(framework, address),
        )

    def _describe(self, message: Message) -> None:
        """What a framework sees, where the runner's own interpreter is another."""
        framework = registry.frameworks()[message["framework"]]
        try:
            framework.start(None, message["threads"])
            view = json.loads(json.dumps(asdict(framework.describe()), default=str))
        except Exception as error:  # noqa: BLE001  # a framework that will not import is an answer
            self._send("described", view=None, error=describe_error(error))
            return
        self._send("described", view=view, error=None)

    def _measure(self, message: Message) -> None:
        try:
            bench = self._bench(message)
        except DevbenchError as error:
            self._send("measured", facts=_declared_wrongly(error))
            return
        facts = visit(bench, *self._visiting(message))
        # Only now has nobody the step any more, whose parts may hold each other.
        bench.framework.release()
        self._freeze_imports()
        self._send("measured", facts=facts)

    def _freeze_imports(self) -> None:
        """What an import made stays: a collection between two cases then takes milliseconds, not the
        60 (torch) to 150 (TensorFlow) that it takes to look at all of it."""
        if len(sys.modules) > self._modules:
            self._modules = len(sys.modules)
            gc.collect()  # what is frozen is never freed
            gc.freeze()

    def _hold(self, message: Message) -> None:
        """Build and warm up a case, and keep it for bursts."""
        self._release()
        try:
            bench = self._bench(message)
        except DevbenchError as error:
            self._send("held", facts=_declared_wrongly(error), files=[])
            return
        keeping = ExitStack()

        def keep() -> dict[str, Any]:
            warm = keeping.enter_context(warmed_up(bench, *self._visiting(message)))
            pinned = keeping.enter_context(binding.bound(warm.threads, self._threads))
            self._held = Held(bench, warm, keeping)
            return warm.facts | {"pinned": pinned}

        facts = outcome(bench, keep)
        files = _files_below(message["roots"])
        strays = sorted(set(_files_below(message["tops"])).difference(files))
        self._send("held", facts=facts, files=files, strays=strays)

    def _burst(self, message: Message) -> None:
        """Some samples of the case that is held, at least so many and for so many seconds."""
        held = self._held
        assert held is not None

        def take() -> dict[str, Any]:
            if message["yardstick"]:
                held.warm.yardstick.burst()
            samples: list[float] = []
            start = time.perf_counter()
            while (
                len(samples) < message["samples"]
                or time.perf_counter() - start < message["seconds"]
            ):
                samples += held.warm.sample()
            return {"samples": samples}

        self._send("taken", facts=outcome(held.bench, take))

    def _drop(self) -> None:
        facts = self._close()
        self._release()
        self._send("dropped", facts=facts)

    def _close(self) -> dict[str, Any]:
        held = self._held
        return {} if held is None else outcome(held.bench, lambda: closing(held.bench, held.warm))

    def _release(self) -> None:
        if self._held is not None:
            framework = self._held.bench.framework
            self._held.keeping.close()
            self._held = None
            framework.release()
            self._freeze_imports()

    def _bench(self, message: Message) -> Bench:
        """Raises DevbenchError for a suite that cannot be loaded."""
        assert self._framework is not None
        assert self._target is not None
        return Bench(
            self._benchmark(message),
            message["params"],
            self._framework,
            self._target.devices,
            self._threads,
            message["seed"],
            Path(message["scratch"]),
            message.get("repeat", 1),
            _path(message["kept"]),
            self._bystanders,
        )

    def _visiting(
        self, message: Message
    ) -> tuple[Limits, float, Path | None, Yardsticks, Callable[[str], None]]:
        """How a case is visited, in the order of `visit`'s arguments."""
        assert self._yardsticks is not None
        limits = Limits(**message["limits"])
        return limits, self._tick_s, _path(message["check"]), self._yardsticks, self._doing

    def _doing(self, phase: str) -> None:
        self._send("doing", phase=phase)

    def _reference(self, message: Message) -> None:
        try:
            write_reference(
                self._benchmark(message),
                message["params"],
                message["seed"],
                Path(message["path"]),
                _path(message["kept"]),
            )
        except Exception as error:  # noqa: BLE001  # foreign code; the case that needs it will say so
            out = isinstance(error, MemoryError)
            self._send("referenced", error=describe_error(error), out_of_memory=out)
            return
        self._send("referenced", error=None, out_of_memory=False)

    def _ceilings(self, message: Message) -> None:
        assert self._framework is not None
        assert self._target is not None
        framework, address = self._framework, self._target.devices[0]
        cache = framework.cache_bytes(address) or last_level_cache(self._threads)
        meter = CeilingMeter(framework, address, cache, self._tick_s, message["seconds"])
        try:
            found = meter.measure([dtype(name) for name in message["dtypes"]])
        except Exception as error:  # noqa: BLE001  # without ceilings the cases are still worth timing
            self._send("ceilings", error=describe_error(error), found=None)
            return
        self._send("ceilings", error=None, found=found.to_json())

    def _selftest(self, message: Message) -> None:
        framework = registry.frameworks()[message["framework"]]
        try:
            framework.start(None, message["threads"])
            # One device of a kind: the others have the same timer.
            first_of_kind: dict[str, str] = {}
            for device in framework.describe().devices:
                first_of_kind.setdefault(device.kind, device.address)
            for address in first_of_kind.values():
                readings = device_readings(framework, address, self._tick_s, message["seconds"])
                self._send("readings", address=address, readings=readings)
        except Exception as error:  # noqa: BLE001  # a framework that will not run is an answer
            self._send("tested", error=describe_error(error))
            return
        self._send("tested", error=None)

    def _benchmark(self, message: Message) -> Benchmark:
        source = registry.Source.from_json(message["source"])
        if source.suite not in self._suites:
            self._suites[source.suite] = {b.name: b for b in registry.load_suite(source)}
        found = self._suites[source.suite].get(message["benchmark"])
        if found is None:
            raise DeclarationError(
                f"the suite {source.suite!r} has no benchmark {message['benchmark']!r}", str(source)
            )
        return found


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _declared_wrongly(error: DevbenchError) -> dict[str, Any]:
    return {"status": "failed", "reason": "declaration", "detail": str(error)}


def _files_below(roots: Sequence[str]) -> list[str]:
    """Files that this process has loaded from below `roots`: by these two sides of a comparison are
    told apart. Not what is installed, whose environment may lie there too."""
    loaded = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return sorted({file for file in loaded if file and any(_is_own(file, root) for root in roots)})


def _is_own(file: str, root: str) -> bool:
    if not file.startswith(f"{root}{os.sep}"):
        return False
    if not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts):
        return False
    # What lies below the root of an interpreter. The root may itself lie below one's prefix, as in /usr/src.
    installed = sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib")
    inside = [one for one in installed if one.startswith(f"{root}{os.sep}")]
    return not file.startswith(tuple(f"{one}{os.sep}" for one in inside))


def threads_used(framework: Framework, address: str) -> float | None:
    """CPU seconds over wall seconds of this process under a product that keeps all threads busy.

    What the framework says of its threads is not enough: TensorFlow's getter answers 0 while the
    environment variable works. The median of five bursts, because a burst may be preempted. None
    where the device is not a CPU.
    """
    if not address.lower().startswith("cpu"):
        return None
    ratios = []
    with framework.scope(address):
        step = framework.probes(address, cache_bytes=0).gemm(1024, dtype("float32"))
        step()
        for _ in range(5):
            cpu, wall = time.process_time(), time.perf_counter()
            while time.perf_counter() - wall < 0.03:
                step()
            ratios.append((time.process_time() - cpu) / (time.perf_counter() - wall))
    return statistics.median(ratios)


if __name__ == "__main__":
    main()
