"""What a measurement says besides its samples, as the store keeps it: deflated JSON.

The same names and many of the same values stand in every measurement, so each is deflated against a
text that holds them (RFC 1951 looks back into it). Figures are kept to seven significant digits, as
samples are: no clock knows more.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

from devbench.model import Json
from devbench.store.records import dumps
from devbench.store.samples import RAW

#: What deflate looks back into. Stored blobs need it letter by letter: it never changes, and a better one
#: would be a new schema version. What occurs most often stands at the end, where it is cheapest to name.
_ALIKE: Final = (
    b'{"reason":"unsupported","reason":"out-of-memory","reason":"after-oom","reason":"too-slow","detail":"'
    b'","numerics_detail":"output 0: ","metrics":{"mode":"compiled","mode":"function","clock":"cuda events",'
    b'"gpus":[{"uuid":"GPU-","sm_clock_hz":,"sm_clock_min_hz":,"sm_clock_max_hz":,"memory_clock_hz":,'
    b'"throttle_reasons":[],"power_w":,"temperature_c":,"utilisation":,"memory_bytes":,"processes":,'
    b'"energy_j":,"energy_seconds":,"energy_source":"nvml","rapl_j":,"check_s":0.0,"output_bytes":,'
    b'"numerics":"match","rel_error":1e-07,"tolerance":1e-05,"started_at":"2026-01-01T00:00:00.000+00:00",'
    b'"mode":"eager","threads":2,"clock":"perf_counter, CPU calls block","clock_tick_s":4e-08,"block":1,'
    b'"first_call_s":0.0,"warmup_s":0.,"warmup_steps":9,"steady":true,"trend":-0.00,"build_s":0.00,'
    b'"timing_s":0.,"threads_used":1.9,"input_bytes":,"peak_memory_bytes":,"telemetry":{"seconds":0.,'
    b'"samples":,"host":{"cpus":2,"cores":2,"steal":0.0,"worker_busy":1.9,"others_busy":0.0,'
    b'"throttled_periods":0,"throttled_s":0,"cpu_clock_hz":2596134000.0,"swapped_in":0,"swapped_out":0,'
    b'"memory_pressure":0.0},"gpus":[]},"yardstick":"gemm 192x192 float32","yardstick_s":0.000'
)


def pack_facts(facts: Mapping[str, Json]) -> bytes:
    """A JSON object to a blob, figures rounded."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, RAW, zdict=_ALIKE)
    return deflate.compress(dumps(rounded(facts)).encode("ascii")) + deflate.flush()


def unpack_facts(blob: bytes) -> dict[str, Json]:
    """A blob to the JSON object. Raises ValueError for a blob that is damaged."""
    inflate = zlib.decompressobj(RAW, zdict=_ALIKE)
    try:
        found = json.loads(inflate.decompress(blob))
    except (zlib.error, ValueError) as error:
        raise ValueError(f"facts that cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("facts that are no object")
    return found


def rounded(value: Any) -> Any:
    """The JSON value with its figures as the store keeps them; whole numbers stay as they are."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, Mapping):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value
