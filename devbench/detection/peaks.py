"""What a device could do at most: datasheet figures by its exact name, and a rule for CPUs.

A peak is for the fraction beside a measured rate, so a wrong one is worse than none. A device that is
not listed has none, and so has a laptop GPU, a MIG slice or a virtual GPU, whose names resemble those of
whole boards. The table is ``peaks.toml``; its head says what each field means.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Final

from devbench.detection.records import Host


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Theoretical rates of one device as a framework addresses it (a die of a board that has two).

    flop_per_s: FLOP/s by format, OP/s for int8; dense, the fastest units of the chip, 16-bit formats
        with float32 accumulation. The formats are those of devbench.model.DTYPES and ``tfloat32``:
        float32 products in TF32, the peak of a float32 case where a framework is allowed to. Formats
        that are not known are not there.
    bytes_per_s: bandwidth of the device memory, None where not known.
    source: address of the datasheet, white paper or page that the figures come from.
    clock_hz: the clock that they belong to, None where the source does not tell.
    tensor_clock_hz: that of tfloat32, the 16-bit formats and int8, where it is another.
    """

    name: str
    vendor: str
    source: str
    flop_per_s: Mapping[str, float] = field(default_factory=dict)
    bytes_per_s: float | None = None
    clock_hz: float | None = None
    tensor_clock_hz: float | None = None


def find_peak(device_name: str) -> Peak | None:
    """The peak of the accelerator that reports this name (NVML, torch, TensorFlow), else None.

    Upper and lower case and the amount of white space do not matter; nothing else is forgiven.
    """
    return _peaks().get(_key(device_name))


@cache
def _peaks() -> Mapping[str, Peak]:
    table = tomllib.loads(files(__package__).joinpath("peaks.toml").read_text(encoding="utf-8"))
    return {
        _key(name): Peak(
            name=row["names"][0],
            vendor=row["vendor"],
            source=row["source"],
            flop_per_s=row.get("flop_per_s", {}),
            bytes_per_s=row.get("bytes_per_s"),
            clock_hz=row.get("boost_clock_hz"),
            tensor_clock_hz=row.get("tensor_clock_hz"),
        )
        for row in table["accelerator"]
        for name in row["names"]
    }


def _key(name: str) -> str:
    return " ".join(name.split()).casefold()


_WIKICHIP: Final = "https://en.wikichip.org/wiki/flops"
_ZEN: Final = "https://www.numberworld.org/blogs/2024_8_7_zen5_avx512_teardown/"
_AMX: Final = (
    "https://www.tomshardware.com/news/intel-fires-up-xeon-max-cpus-gpus-to-rival-amd-nvidia"
)
_NEOVERSE: Final = "https://en.wikichip.org/wiki/arm_holdings/microarchitectures/"
_GRACE: Final = "https://www.nvidia.com/en-us/data-center/grace-cpu-superchip/"


@dataclass(frozen=True, slots=True)
class Core:
    """What one core does a clock: FLOP in float32 (float64 half of it), and in bfloat16 where known.

    A CPU has such cores if `model` is found in its name and it has the flags, without those after a "-".
    """

    name: str
    model: str
    flags: str
    float32: int
    source: str = _WIKICHIP
    bfloat16: int | None = None

    def fits(self, model: str, flags: frozenset[str]) -> bool:
        return re.search(self.model, model) is not None and all(
            (flag.removeprefix("-") in flags) != flag.startswith("-") for flag in self.flags.split()
        )


#: The first that fits counts. Flags alone do not tell how wide the units are: Zen 4 executes a 512-bit
#: operation in two halves, the lower Xeons of the first two generations have one 512-bit FMA unit
#: (Gold 5122 and 5222 have two), later ones two, and those of the mobile Zen 5 and of Intel's Core with
#: AVX-512 differ again. So cores are told by name and flags, and the others have no peak: also Intel's
#: hybrids (avx_vnni without avx512f), whose cores are of two kinds, and a virtual "Xeon" without number.
#: A hypervisor that hides both the number and avx_vnni makes a Zen 5 look like a Zen 4.
#: VDPBF16PS on Zen 4 does twice the FLOP of float32 (measured: a GEMM runs at 2.0 times the rate).
CORES: Final = (
    Core("AMD Zen 5", r"AMD EPYC 9\w\d5|AMD Ryzen \d 9\d{3}X(3D)?\b", "avx512f", 64, _ZEN),
    Core("AMD Zen 4", r"AMD (EPYC|Ryzen)", "avx512f avx512_bf16 -avx_vnni", 32, _ZEN, 64),
    Core("AMD Zen 2/3", r"AMD EPYC(-Rome|-Milan| 7\w\d[23]\w?\b)", "avx2 fma -avx512f", 32),
    Core("AMD Zen 2/3", r"AMD Ryzen \d (PRO )?[456]\d{3}", "avx2 fma -avx512f", 32),
    Core("AMD Zen 2", r"AMD Ryzen \d (PRO )?3[1-9]\d0X?T?( |$)", "avx2 fma -avx512f", 32),
    Core("AMD Zen 2/3", r"Threadripper (PRO )?[35]9\d\d", "avx2 fma -avx512f", 32),
    Core("AMD Zen", r"AMD EPYC 7\w\d1\w?\b|Threadripper [12]9\d\d", "avx2 fma -avx512f", 16),
    Core("AMD Zen", r"AMD Ryzen \d (PRO )?[12]\d{3}", "avx2 fma -avx512f", 16),
    Core("Intel Xeon with AMX", r"Intel.*Xeon", "avx512f amx_bf16", 64, _AMX, 1024),
    Core("Intel Ice Lake-SP", r"Xeon\(R\) (Platinum 83|Gold [56]3|Silver 43)\d\d", "avx512f", 64),
    Core("Intel Skylake-SP", r"Xeon\(R\) (Platinum 8|Gold 6)[12]\d\d", "avx512f", 64),
    Core("Intel Skylake-SP", r"Xeon\(R\) Gold 5[12]22\b", "avx512f", 64),
    Core("Intel Skylake-SP", r"Xeon\(R\) (Gold 5|Silver 4|Bronze 3)[12]\d\d", "avx512f", 32),
    Core("Intel Haswell to Comet Lake", r"Intel", "avx2 fma -avx512f -avx_vnni", 32),
    Core("Arm Neoverse-N1", r"^Arm Neoverse-N1$", "asimd", 16, _NEOVERSE + "neoverse_n1"),
    Core("Arm Neoverse-V1", r"^Arm Neoverse-V1$", "asimd", 32, _NEOVERSE + "neoverse_v1"),
    Core("Arm Neoverse-V2", r"^Arm Neoverse-V2$", "asimd", 32, _GRACE),
)


def cpu_peak(host: Host, threads: int, clock_hz: float | None) -> Peak | None:
    """The peak of `threads` threads: cores × clock × FLOP a clock. None where one of them is not known.

    clock_hz is the clock that the cores hold under this load, so it must have been observed (the kernel's
    cpufreq). `host.cpu_max_clock_hz` is the boost of a single core: with it the peak is a bound that all
    cores together do not reach. A virtual machine mostly shows neither, and what its /proc/cpuinfo calls
    MHz is the time-stamp counter's constant rate. Two threads of one core share its units: no more cores
    count than `usable_cores`, and no more than the quota grants.
    """
    core = find_core(host)
    if core is None or clock_hz is None or (host.usable_cores is None and threads > 1):
        return None
    limits = [limit for limit in (host.usable_cores, host.usable_cpus) if limit is not None]
    clocks = min([threads, *limits]) * clock_hz
    rates = {"float64": core.float32 / 2, "float32": core.float32, "bfloat16": core.bfloat16}
    return Peak(
        name=f"{host.cpu_model} ({core.name})",
        vendor=core.name.split()[0],
        source=core.source,
        flop_per_s={name: rate * clocks for name, rate in rates.items() if rate is not None},
        clock_hz=clock_hz,
    )


def find_core(host: Host) -> Core | None:
    """The core that the host's CPU consists of, where its name and flags tell."""
    if host.cpu_model is None or host.cpu_flags is None:
        return None
    model, flags = host.cpu_model, frozenset(host.cpu_flags)
    return next((core for core in CORES if core.fits(model, flags)), None)
