"""The worker of a stress test: ``python -P -m devbench.stress.child`` answers one message.

=======  ===================================================================================
asked    stress: target, threads, effort, memory_bytes (to be tested; null: not known), skip
answers  ready or failed; then doing …, checked …, window …, ceilings …; ended
=======  ===================================================================================

It ends with its input, in the middle of a step too.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any, TextIO

from devbench import registry
from devbench.detection import read_host
from devbench.frameworks.base import Framework
from devbench.measure.cache import last_level_cache
from devbench.measure.ceilings import CeilingMeter
from devbench.measure.sampling import clock_tick
from devbench.measure.visit import describe_error
from devbench.model import Target
from devbench.protocol import Message, claim_stdout, decode, encode
from devbench.stress import arithmetic
from devbench.stress.arithmetic import Place, run_trial
from devbench.stress.effort import Effort
from devbench.stress.endurance import repeated_product, trial_dtypes
from devbench.stress.load import load_dtype, load_n, sustain
from devbench.stress.patterns import memory_patterns
from devbench.stress.records import Outcome, Trial

#: Of a host's memory, what must stay free while more of it is taken for patterns.
RESERVE = 0.25


def main() -> None:
    out = claim_stdout()
    message = decode(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    Child(out, message).serve()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


class Child:
    def __init__(self, out: TextIO, message: Message) -> None:
        self._out = out
        self._target = Target.from_json(message["target"])
        self._address = self._target.devices[0]
        self._threads: int = message["threads"]
        self._effort = Effort(**message["effort"])
        self._memory_bytes: int | None = message["memory_bytes"]
        self._skip: set[str] = set(message["skip"])
        self._framework: Framework = registry.frameworks()[self._target.framework]

    def serve(self) -> None:
        framework = self._framework
        try:
            framework.start(self._target, self._threads)
            with framework.scope(self._address):
                place = Place.of(framework, self._address)
            view = framework.describe()
            gc.freeze()  # as in `devbench.worker`: collecting between checks then takes milliseconds
        except Exception as error:  # noqa: BLE001  # a framework that will not start is an answer
            self._send("failed", detail=describe_error(error))
            return
        self._send(
            "ready",
            version=view.version,
            file=view.file,
            build=json.loads(json.dumps(dict(view.build), default=str)),
            settings=dict(framework.settings()),
        )
        for trial in self._trials(place):
            if trial.key not in self._skip:
                self._send("doing", key=trial.key, tier=trial.tier)
                check = run_trial(framework, self._address, str(self._target), trial)
                self._send("checked", check=asdict(check))
                framework.release()
        if self._effort.tier >= 2 and "bandwidth" not in self._skip:
            self._ceilings()
        if self._effort.tier >= 3 and "sustained" not in self._skip:
            self._sustain(place)
        self._send("ended")

    def _send(self, kind: str, **fields: Any) -> None:
        self._out.write(encode(kind, **fields))
        self._out.flush()

    def _trials(self, place: Place) -> Iterator[Trial]:
        yield from arithmetic.trials(self._framework, self._address)
        if self._effort.tier < 2:
            return
        for dtype in trial_dtypes(place):
            run = partial(repeated_product, place, dtype, self._effort.repeat_s)
            yield Trial(2, "repeated_product", run, dtype.name)
        yield Trial(2, "memory", partial(self._memory, place))

    def _memory(self, place: Place) -> Outcome:
        if self._memory_bytes is None:
            return Outcome("cannot tell", "nobody tells how much memory of this device is free")
        if not self._memory_bytes:
            return Outcome("cannot tell", "too little memory is free to take some of it for a test")
        return memory_patterns(
            place, self._memory_bytes, self._effort.memory_s, partial(_room, place)
        )

    def _ceilings(self) -> None:
        framework, address = self._framework, self._address
        self._send("doing", key="bandwidth", tier=2)
        cache = framework.cache_bytes(address) or last_level_cache(self._threads)
        try:
            found = CeilingMeter(
                framework, address, cache, clock_tick(), self._effort.probe_s
            ).measure([])
        except Exception as error:  # noqa: BLE001  # its own row says so
            self._send("ceilings", found=None, error=describe_error(error))
            return
        self._send("ceilings", found=found.to_json(), error=None)

    def _sustain(self, place: Place) -> None:
        framework, address = self._framework, self._address
        cache = framework.cache_bytes(address) or last_level_cache(self._threads)
        self._send("doing", key="sustained", tier=3, n=load_n(place), dtype=load_dtype(place).name)
        try:
            with framework.scope(address):
                for window in sustain(place, cache, 60 * self._effort.minutes):
                    self._send("window", window=window)
        except Exception as error:  # noqa: BLE001  # its own row says so
            self._send("stopped", error=describe_error(error))


def _room(place: Place) -> bool:
    """Whether the host has memory to spare just now. A device's own is nobody else's to need."""
    if not place.is_cpu:
        return True
    host = read_host()
    free, usable = host.available_memory_bytes, host.usable_memory_bytes
    return free is not None and usable is not None and free > RESERVE * usable


if __name__ == "__main__":
    main()
