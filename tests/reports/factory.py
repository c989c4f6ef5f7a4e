"""Runs for the report tests. The machine and its GPU do not exist; the figures follow simple laws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from devbench.model import Case, Json, ParamValue, Result, Run, RunInfo, Target, Work

GPU = "GPU-00000000-test-test-test-000000000000"
GPU_NAME = "Fictional F1"
CPU_NAME = "Imaginary Processor 3000"

#: Address → (physical device, name, FLOP/s at large sizes, seconds a step costs at least).
DEVICES: Mapping[str, tuple[str, str, float, float]] = {
    "torch:cpu": ("cpu", CPU_NAME, 210e9, 4e-6),
    "tensorflow:CPU:0": ("cpu", CPU_NAME, 195e9, 60e-6),
    "torch:cuda:0": (GPU, GPU_NAME, 18e12, 25e-6),
    "tensorflow:GPU:0": (GPU, GPU_NAME, 17.6e12, 160e-6),
}

SIZES = {"matmul": "n", "mlp": "batch", "cnn": "batch"}

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"quoted\" 'name' & {{7*7}} {% raw %} | pipe \\ `tick`",
    "ünïcode 测试 \u2028 \u202e end",
    "long-" * 60,
)


def target(name: str) -> Target:
    framework, _, address = name.partition(":")
    return Target(framework, (address,))


def result(
    name: str = "torch:cpu",
    params: Mapping[str, ParamValue] | None = None,
    *,
    benchmark: str = "matmul",
    median: float | None = 0.01,
    rounds: int = 5,
    half: float = 0.02,
    flops: float | None = 2e9,
    items: float | None = None,
    **changes: Any,
) -> Result:
    """One row. With several rounds the interval is the median ± `half`; the spread is always 4 %."""
    values: dict[str, Any] = {field.name: None for field in fields(Result)}
    params = dict(params or {"n": 1024, "dtype": "float32"})
    case = Case(benchmark, benchmark, tuple(params.items()), target(name))
    physical, device_name, _, _ = DEVICES[name]
    ok = median is not None
    values |= {
        "run_id": "20260102-030405-test",
        "label": "a test",
        "case_id": case.id,
        "started_at": "2026-01-02T03:04:05.678+00:00",
        "suite": benchmark,
        "benchmark": benchmark,
        "params": params,
        "framework": case.target.framework,
        "framework_version": "2.13.0" if case.target.framework == "torch" else "2.21.0",
        "target": name,
        "physical_device": physical,
        "device_name": device_name,
        "driver": None if physical == "cpu" else "999.01",
        "dtype": str(params.get("dtype", "float32")),
        "mode": "eager" if case.target.framework == "torch" else "function",
        "threads": 2,
        "world_size": 1,
        "status": "ok",
        "quality_reasons": (),
        "metrics": {},
        "rounds": 0,
        "samples": 0,
    }
    if median is not None:
        values |= {
            "quality": "valid",
            "rounds": rounds,
            "samples": 40 * rounds,
            "median": median,
            "ci_low": median * (1 - half) if rounds > 1 else None,
            "ci_high": median * (1 + half) if rounds > 1 else None,
            "within_p5": median * 0.96,
            "within_p25": median * 0.98,
            "within_p75": median * 1.02,
            "within_p95": median * 1.04,
            "within_p99": median * 1.08,
            "min": median * 0.95,
            "max": median * 1.2,
            "mean": median * 1.01,
            "warmup_s": 0.3,
            "first_call_s": median * 20,
            "clock": "perf_counter, nothing to wait for" if physical == "cpu" else "cuda events",
            "flop_per_s": flops / median if flops else None,
            "items_per_s": items / median if items else None,
            "rel_error": 3e-7,
            "numerics": "match",
            "peak_memory_bytes": 12 * 2**20 if ok and physical != "cpu" else None,
        }
    return Result(**(values | changes))


def time_on(name: str, flops: float) -> float:
    _, _, speed, least = DEVICES[name]
    return least + flops / speed


def sweep(
    rounds: int = 5, half: float = 0.02, names: Iterable[str] = tuple(DEVICES)
) -> list[Result]:
    """matmul in two dtypes, an MLP in three phases, a CNN at one size; on the named targets."""
    rows = []
    for name in names:
        for dtype, speed in (
            ("float32", 1.0),
            ("bfloat16", 2.0 if "GPU" in DEVICES[name][0] else 0.5),
        ):
            for n in (256, 512, 1024, 2048, 4096):
                flops = 2.0 * n**3
                rows.append(
                    result(
                        name,
                        {"n": n, "dtype": dtype},
                        median=time_on(name, flops / speed),
                        flops=flops,
                        rounds=rounds,
                        half=half,
                    )
                )
        for phase, cost in (("forward", 1), ("forward_backward", 3), ("train_step", 3.5)):
            for batch in (32, 256, 2048):
                rows.append(
                    result(
                        name,
                        {"batch": batch, "phase": phase, "dtype": "float32"},
                        benchmark="mlp",
                        median=time_on(name, cost * batch * 1.8e5) * (1 + cost / 5),
                        flops=cost * batch * 1.8e5,
                        items=batch,
                        rounds=rounds,
                        half=half,
                    )
                )
        rows.append(
            result(
                name,
                {"batch": 64, "dtype": "float32"},
                benchmark="cnn",
                median=time_on(name, 64 * 1.3e6) * 3,
                flops=None,
                items=64,
                rounds=rounds,
                half=half,
            )
        )
    return rows


def troubled() -> list[Result]:
    """A row for each way of not being fine."""

    def missing(
        status: str, reason: str, n: int, name: str = "torch:cpu", dtype: str = "float16"
    ) -> Result:
        return result(name, {"n": n, "dtype": dtype}, median=None, status=status, reason=reason)

    return [
        missing("skipped", "too-slow: a step of 2048 would take 63 s, the limit is 10 s", 2048),
        missing("oom", "out-of-memory: 96 GiB were asked for", 65536, "torch:cuda:0"),
        missing("failed", "error: ValueError: a < b | c", 512, "tensorflow:CPU:0"),
        missing("crashed", "signal: SIGSEGV", 1024, "tensorflow:GPU:0"),
        missing("timeout", "case-timeout: 60 s", 4096),
        result(
            "torch:cpu",
            {"n": 128, "dtype": "float32"},
            median=21e-6,
            half=0.3,
            quality="suspect",
            quality_reasons=("wide-interval: ±30% over 5 rounds", "rounds-disagree: 41% longer"),
        ),
        result(
            "torch:cuda:0",
            {"n": 128, "dtype": "float32"},
            median=5e-6,
            quality="invalid",
            quality_reasons=("numerics-mismatch: 0.02 at [3, 4], tolerance 1e-05",),
            numerics="mismatch",
            rel_error=0.02,
        ),
    ]


def framework_view(name: str) -> dict[str, Json]:
    return {"name": name, "version": "1.0", "file": f"{name}.py", "devices": [], "build": {}}


def environment(host: str = "test-machine", *, with_gpu: bool = True) -> dict[str, Json]:
    devices = [
        {
            "framework": name.partition(":")[0],
            "address": name.partition(":")[2],
            "kind": "cpu" if physical == "cpu" else "gpu",
            "name": device_name,
            "physical": physical,
            "memory_bytes": 8 * 2**30 if physical == "cpu" else 80 * 2**30,
        }
        for name, (physical, device_name, _, _) in DEVICES.items()
        if with_gpu or physical == "cpu"
    ]
    gpu = {
        "index": 0,
        "name": GPU_NAME,
        "uuid": GPU,
        "memory_bytes": 80 * 2**30,
        "driver": "999.01",
    }
    return {
        "machine": {
            "host": {
                "hostname": host,
                "cpu_model": CPU_NAME,
                "usable_cpus": 2.0,
                "usable_memory_bytes": 8 * 2**30,
                "os": "Linux",
                "kernel": "9.9.9",
            },
            "gpus": [gpu] if with_gpu else [],
            "frameworks": [
                {"name": name, "status": "ok", "view": framework_view(name)}
                for name in ("torch", "tensorflow")
            ],
            "devices": devices,
        },
        "targets": {
            name: {
                "framework_version": "1.0",
                "physical_device": physical,
                "settings": {"tf32": False},
            }
            for name, (physical, _, _, _) in DEVICES.items()
            if with_gpu or physical == "cpu"
        },
        "argv": ["devbench", "run", "--quick"],
        "git": None,
        "python": "3.11.7",
        "variables": {"OMP_NUM_THREADS": "2"},
    }


def run(
    results: Iterable[Result],
    *,
    host: str = "test-machine",
    label: str | None = "a test",
    **changes: Any,
) -> Run:
    """The run that these rows belong to. Keyword arguments replace fields of its `RunInfo`."""
    facts: dict[str, Any] = {
        "id": "20260102-030405-test",
        "label": label,
        "started_at": "2026-01-02T03:04:05+00:00",
        "finished_at": "2026-01-02T03:06:07+00:00",
        "state": "complete",
        "devbench_version": "0.1.0",
        "settings": {
            "rounds": 5,
            "quick": False,
            "benchmarks": {name: {"size": size} for name, size in SIZES.items()},
        },
        "environment": environment(host),
    }
    cases = tuple(
        Case(row.suite, row.benchmark, tuple(row.params.items()), target(row.target), Work())
        for row in results
    )
    return Run(info=RunInfo(**(facts | changes)), cases=cases, measurements=())
