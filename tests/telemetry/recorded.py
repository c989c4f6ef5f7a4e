"""A machine as data: a /proc and /sys tree that moves on, and a GPU's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devbench.telemetry import Sampler
from tests.detection.recorded import RecordedNvml

#: This process (the sampler's) and the worker that it has started.
OWN, WORKER = 100, 200

GPU = "GPU-11111111-aaaa-bbbb-cccc-000000000001"

#: Four CPUs, of which the process may use three: cpu3 must never count.
START: dict[str, str] = {
    "proc/self/status": "Cpus_allowed_list:\t0-2",
    "proc/self/stat": f"{OWN} (devbench) S 1 1 1 0 -1 0 0 0 0 0 50 10 0 0 20 0 2 0",
    f"proc/{OWN}/stat": f"{OWN} (devbench) S 1 1 1 0 -1 0 0 0 0 0 50 10 0 0 20 0 2 0",
    f"proc/{WORKER}/stat": f"{WORKER} (a) b (c) R {OWN} 1 1 0 -1 0 0 0 0 0 1000 100 5 5 20 0 8 0",
    f"proc/{WORKER}/task/{WORKER}/children": "",
    "proc/stat": (
        "cpu  0 0 0 0 0 0 0 0 0 0\n"
        "cpu0 100 0 100 1000 0 0 0 0 0 0\n"
        "cpu1 100 0 100 1000 50 0 0 10 7 0\n"
        "cpu2 100 0 100 1000 0 5 5 0 0 0\n"
        "cpu3 999 0 999 1000 0 0 0 999 0 0\n"
        "intr 12345 1 2 3"
    ),
    "proc/vmstat": "nr_free_pages 1\npswpin 1000\npswpout 2000",
    "proc/pressure/memory": (
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=5000000\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=4000000"
    ),
    "proc/cpuinfo": "cpu MHz\t\t: 2400.000\n\ncpu MHz\t\t: 2600.000",
    "proc/self/cgroup": "3:cpu,cpuacct:/job\n0::/",
    f"proc/{WORKER}/cgroup": "3:cpu,cpuacct:/job\n0::/",
    "proc/self/mountinfo": (
        "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
    ),
    "sys/fs/cgroup/cpu/cpu.stat": "nr_periods 0\nnr_throttled 0\nthrottled_time 0",
    "sys/fs/cgroup/cpu/job/cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 500000000",
    "sys/class/powercap/intel-rapl:0/name": "package-0",
    "sys/class/powercap/intel-rapl:0/energy_uj": "999000000",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850",
    "sys/class/powercap/intel-rapl:0:0/name": "dram",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "1",
    "sys/class/powercap/intel-rapl:0:0/max_energy_range_uj": "262143328850",
    "sys/class/powercap/intel-rapl:1/name": "package-1",
    "sys/class/powercap/intel-rapl:1/energy_uj": "262143000000",
    "sys/class/powercap/intel-rapl:1/max_energy_range_uj": "262143328850",
    "sys/class/powercap/intel-rapl:2/name": "psys",
    "sys/class/powercap/intel-rapl:2/energy_uj": "1",
    "sys/class/powercap/intel-rapl:2/max_energy_range_uj": "262143328850",
}

#: The same two seconds later. Of 600 ticks on the three CPUs 30 were stolen and 330 busy; the worker
#: took 250 of these, its child that ended 20, the sampler 2: 58 are left for everybody else.
END: dict[str, str] = {
    "proc/self/stat": f"{OWN} (devbench) S 1 1 1 0 -1 0 0 0 0 0 51 11 0 0 20 0 2 0",
    f"proc/{WORKER}/stat": f"{WORKER} (a) b (c) R {OWN} 1 1 0 -1 0 0 0 0 0 1200 150 20 10 20 0 8 0",
    "proc/stat": (
        "cpu  0 0 0 0 0 0 0 0 0 0\n"
        "cpu0 250 0 150 1000 0 0 0 0 0 0\n"
        "cpu1 150 10 130 1070 60 0 0 40 90 0\n"
        "cpu2 110 0 120 1160 0 10 10 0 0 0\n"
        "cpu3 2999 0 2999 1000 0 0 0 2999 0 0\n"
        "intr 22345 1 2 3"
    ),
    "proc/vmstat": "nr_free_pages 1\npswpin 1300\npswpout 2050",
    "proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=5100000",
    "sys/fs/cgroup/cpu/cpu.stat": "nr_periods 8\nnr_throttled 1\nthrottled_time 100000000",
    "sys/fs/cgroup/cpu/job/cpu.stat": "nr_periods 29\nnr_throttled 14\nthrottled_time 900000000",
    "sys/class/powercap/intel-rapl:0/energy_uj": "1099000000",
    "sys/class/powercap/intel-rapl:1/energy_uj": "49671150",
}

#: A loaded GPU with nothing to complain of, the worker alone on it.
BOARD: Mapping[str, Any] = {
    "nvmlInit()": 0,
    f"nvmlDeviceGetHandleByUUID({GPU})": "gpu0",
    "nvmlDeviceGetClockInfo(gpu0, 1)": 1410,
    "nvmlDeviceGetClockInfo(gpu0, 2)": 1215,
    "nvmlDeviceGetMaxClockInfo(gpu0, 1)": 1410,
    "nvmlDeviceGetCurrentClocksEventReasons(gpu0)": 0,
    "nvmlDeviceGetPowerUsage(gpu0)": 310000,
    "nvmlDeviceGetEnforcedPowerLimit(gpu0)": 400000,
    "nvmlDeviceGetTemperature(gpu0, 0)": 61,
    "nvmlDeviceGetUtilizationRates(gpu0)": {"gpu": 98, "memory": 40},
    "nvmlDeviceGetMemoryInfo(gpu0)": {
        "total": 42949672960,
        "free": 40000000000,
        "used": 2949672960,
    },
    "nvmlDeviceGetComputeRunningProcesses(gpu0)": [{"pid": WORKER, "usedGpuMemory": 900000000}],
    "nvmlDeviceGetCurrPcieLinkGeneration(gpu0)": 4,
    "nvmlDeviceGetMaxPcieLinkGeneration(gpu0)": 4,
    "nvmlDeviceGetCurrPcieLinkWidth(gpu0)": 16,
    "nvmlDeviceGetMaxPcieLinkWidth(gpu0)": 16,
    "nvmlDeviceGetTotalEnergyConsumption(gpu0)": 5000000,
}


def write(root: Path, files: Mapping[str, str]) -> None:
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n", encoding="utf-8")


@dataclass
class Recording:
    """A sampler without its thread: the test says when time passes and when a sample is taken."""

    root: Path
    gpus: tuple[str, ...] = (GPU,)
    worker_pid: int | None = WORKER
    now: float = 1000.0
    board: dict[str, Any] = field(default_factory=lambda: dict(BOARD))

    def __post_init__(self) -> None:
        write(self.root, START)

    def sampler(self) -> Sampler:
        return Sampler(
            self.gpus,
            worker_pid=self.worker_pid,
            root=self.root,
            nvml=RecordedNvml(self.board),
            clock=lambda: self.now,
        )
