"""NVML whose calls are told one by one, as they are asked and as they are answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from devbench.detection import Nvml, NvmlError
from devbench.doctor.recording import call_name
from devbench.model import Json


class Telling:
    """NVML that announces each call, then tells its answer; handles get names."""

    def __init__(self, inner: Nvml, tell: Callable[..., None]) -> None:
        self._inner = inner
        self._tell = tell
        self._handles: dict[str, Any] = {}
        self._names: dict[str, str] = {}

    def query(self, function: str, *arguments: Any) -> Json:
        call = call_name(function, arguments)
        self._tell("asking", call=call)
        real = [self._handles.get(one, one) if isinstance(one, str) else one for one in arguments]
        try:
            found = self._inner.query(function, *real)
        except NvmlError as error:
            self._tell("answered", call=call, answer={"error": str(error)})
            raise
        if _is_handle(found):
            # The bindings give a new object each time; the same question means the same device.
            name = self._names.setdefault(call, f"handle{len(self._names)}")
            self._handles[name] = found
            found = name
        self._tell("answered", call=call, answer=found)
        return found


def _is_handle(value: Any) -> bool:
    return not isinstance(value, str | int | float | bool | list | dict | None)
