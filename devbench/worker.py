"""The child process of one target: it answers the runner's messages until its input ends.

``python -P -m devbench.worker`` serves a framework, or, asked for references only, none at all.
"""

from __future__ import annotations

import gc
import os
import queue
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from devbench import registry
from devbench.declare import Benchmark
from devbench.errors import DevbenchError
from devbench.frameworks.base import Framework
from devbench.measure.bench import Bench
from devbench.measure.cache import last_level_cache
from devbench.measure.ceilings import CeilingMeter
from devbench.measure.check import write_reference
from devbench.measure.known import device_readings
from devbench.measure.sampling import Limits, clock_tick
from devbench.measure.visit import describe_error, visit
from devbench.measure.yardstick import Yardsticks
from devbench.model import Target, dtype
from devbench.protocol import Message, ProtocolError, claim_stdout, decode, encode


def main() -> None:
    Worker(claim_stdout()).serve(_messages())


def _messages() -> queue.SimpleQueue[Message]:
    """Messages as they come, read by a thread that ends the process when the runner is gone.

    The main thread may be inside a step for minutes; a runner that was killed must not leave it
    behind. The thread waits in the kernel and costs the step nothing.
    """
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def read() -> None:
        try:
            for line in sys.stdin:
                messages.put(decode(line))
        except ProtocolError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(2)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return messages


class Worker:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._suites: dict[str, dict[str, Benchmark]] = {}
        self._framework: Framework | None = None
        self._target: Target | None = None
        self._threads = 1
        self._yardsticks: Yardsticks | None = None
        self._tick_s = clock_tick()

    def serve(self, messages: queue.SimpleQueue[Message]) -> None:
        while True:
            message = messages.get()
            match message["type"]:
                case "start":
                    self._start(message)
                case "measure":
                    self._measure(message)
                case "reference":
                    self._reference(message)
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
        start = time.perf_counter()
        try:
            framework.start(target, message["threads"])
        except Exception as error:  # noqa: BLE001  # a framework that will not import is an answer
            self._send("failed", detail=describe_error(error))
            return
        import_s = time.perf_counter() - start
        # What the import made stays: a collection between two cases then takes milliseconds, not the
        # 60 (torch) to 150 (TensorFlow) that it takes to look at all of it.
        gc.freeze()
        self._framework, self._target, self._threads = framework, target, message["threads"]
        address = target.devices[0]
        cache = framework.cache_bytes(address) or last_level_cache()
        self._yardsticks = Yardsticks(framework, address, cache)
        view = framework.describe()
        self._send(
            "ready",
            pid=os.getpid(),
            version=view.version,
            file=view.file,
            build=dict(view.build),
            settings=dict(framework.settings()),
            import_s=import_s,
            threads_used=threads_used(framework, address),
        )

    def _measure(self, message: Message) -> None:
        assert self._framework is not None
        assert self._target is not None
        try:
            benchmark = self._benchmark(message)
        except DevbenchError as error:
            self._send(
                "measured",
                facts={"status": "failed", "reason": "declaration", "detail": str(error)},
            )
            return
        assert self._yardsticks is not None
        bench = Bench(
            benchmark,
            message["params"],
            self._framework,
            self._target.devices,
            self._threads,
            message["seed"],
            Path(message["scratch"]),
        )
        check = message["check"]
        facts = visit(
            bench,
            Limits(**message["limits"]),
            self._tick_s,
            None if check is None else Path(check),
            self._yardsticks,
            lambda phase: self._send("doing", phase=phase),
        )
        self._send("measured", facts=facts)

    def _reference(self, message: Message) -> None:
        try:
            write_reference(
                self._benchmark(message), message["params"], message["seed"], Path(message["path"])
            )
        except Exception as error:  # noqa: BLE001  # foreign code; the case that needs it will say so
            self._send("referenced", error=describe_error(error))
            return
        self._send("referenced", error=None)

    def _ceilings(self, message: Message) -> None:
        assert self._framework is not None
        assert self._target is not None
        framework, address = self._framework, self._target.devices[0]
        cache = framework.cache_bytes(address) or last_level_cache()
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
        return self._suites[source.suite][message["benchmark"]]


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
