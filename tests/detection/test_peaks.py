from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devbench.detection import Host, read_host
from devbench.detection.peaks import CORES, cpu_peak, find_core, find_peak
from devbench.model import DTYPES
from tests.detection.recorded import recorded

TABLE: Final[list[dict[str, Any]]] = tomllib.loads(
    files("devbench.detection").joinpath("peaks.toml").read_text(encoding="utf-8")
)["accelerator"]
NAMES: Final = [name for row in TABLE for name in row["names"]]

#: Multiply-adds a unit (SM, CU, Xe-core) and clock, dense, the fastest units that take the format.
#: NVIDIA: "Arithmetic Instructions" of the CUDA programming guide and the white papers' tensor-core
#: tables. AMD: the CDNA white papers. Intel: the Xe-HPC and Xe-HPG overviews.
FMA_PER_CLOCK: Final[dict[str, dict[str, int]]] = {
    "6.0": {"float64": 32, "float32": 64, "float16": 128},
    "6.1": {"float32": 128, "int8": 512},
    "7.0": {"float64": 32, "float32": 64, "float16": 512},
    "7.5": {"float64": 2, "float32": 64, "float16": 512, "int8": 1024},
    "8.0": {"float64": 64, "float32": 64, "tfloat32": 512, "16-bit": 1024, "int8": 2048},
    "8.6": {"float64": 2, "float32": 128, "tfloat32": 256, "16-bit": 512, "int8": 1024},
    "8.9": {"float64": 2, "float32": 128, "tfloat32": 256, "16-bit": 512, "int8": 1024},
    "9.0": {"float64": 128, "float32": 128, "tfloat32": 1024, "16-bit": 2048, "int8": 4096},
    "10.0": {"float64": 64, "float32": 128, "tfloat32": 2048, "16-bit": 4096, "int8": 8192},
    "12.0": {"float64": 2, "float32": 128, "tfloat32": 256, "16-bit": 512, "int8": 1024},
    "gfx908": {"float64": 32, "float32": 128, "bfloat16": 256, "float16": 512, "int8": 512},
    "gfx90a": {"float64": 128, "float32": 128, "16-bit": 512, "int8": 512},
    "gfx942": {"float64": 128, "float32": 128, "tfloat32": 512, "16-bit": 1024, "int8": 2048},
    "gfx950": {"float64": 64, "float32": 128, "16-bit": 2048, "int8": 4096},
    "xe-hpc": {"float64": 128, "float32": 128, "tfloat32": 1024, "16-bit": 2048, "int8": 4096},
    "xe-hpg": {"float32": 128, "float16": 1024},
    "xe2-hpg": {"float32": 128, "float16": 1024},
}
TENSOR: Final = ("tfloat32", "bfloat16", "float16", "int8")


def fma_per_clock(row: dict[str, Any], name: str) -> float:
    rates = FMA_PER_CLOCK[row["architecture"]]
    rate = rates[name] if name in rates else rates["16-bit"]
    halved = name in ("tfloat32", "bfloat16", "float16")
    return rate * (row.get("tensor_rate", 1) if halved else 1)


def implied_clocks(row: dict[str, Any]) -> dict[str, float]:
    """The clock that each figure of the row would need."""
    return {
        name: rate / (row["units"] * fma_per_clock(row, name) * 2)
        for name, rate in row["flop_per_s"].items()
    }


def rows(*needed: str) -> pytest.MarkDecorator:
    """Parametrize over the rows that have all of these fields."""
    found = [row for row in TABLE if all(item in row for item in needed)]
    return pytest.mark.parametrize("row", found, ids=[row["names"][0] for row in found])


def deviations(row: dict[str, Any]) -> dict[str, float]:
    """Each figure over units × clock × FLOP per unit and clock, less 1."""
    found = {}
    for name, clock in implied_clocks(row).items():
        tensor = row.get("tensor_clock_hz") if name in TENSOR else None
        found[name] = clock / (tensor or row["boost_clock_hz"]) - 1
    return found


def test_the_table_covers_every_maker_and_generation() -> None:
    assert len(TABLE) >= 40
    assert {row["vendor"] for row in TABLE} == {"NVIDIA", "AMD", "Intel", "Apple"}
    architectures = {row["architecture"] for row in TABLE if "architecture" in row}
    assert architectures == FMA_PER_CLOCK.keys()


def test_no_name_stands_in_two_rows_however_it_is_written() -> None:
    written = [" ".join(name.split()).casefold() for name in NAMES]
    assert len(set(written)) == len(written)


@rows("names")
def test_a_row_gives_known_fields_an_address_and_at_least_one_figure(row: dict[str, Any]) -> None:
    assert row.keys() <= {
        *("names", "vendor", "source", "flop_per_s", "bytes_per_s"),
        *("architecture", "units", "boost_clock_hz", "tensor_clock_hz", "tensor_rate"),
        *("memory_bus_bits", "memory_bits_per_pin_s"),
    }
    assert row["source"].startswith("https://")
    assert "flop_per_s" in row or "bytes_per_s" in row
    rates = row.get("flop_per_s", {})
    assert rates.keys() <= {*DTYPES, "tfloat32"}
    # From 0.2 TFLOP/s (float64 of a GeForce) to 5 PFLOP/s (int8 of the largest): a slip of 1000 shows.
    assert all(1e11 < rate < 1e16 for rate in rates.values())
    assert 5e10 < row.get("bytes_per_s", 1e12) < 1e13


@rows("units", "boost_clock_hz", "flop_per_s")
def test_a_figure_is_units_times_clock_times_dense_flop_per_clock(row: dict[str, Any]) -> None:
    assert all(abs(deviation) < 0.03 for deviation in deviations(row).values()), deviations(row)


def test_a_figure_for_sparsity_or_of_a_neighbour_would_be_noticed() -> None:
    ada = next(row for row in TABLE if row["names"] == ["NVIDIA L4"])
    sparse = {name: 2 * rate for name, rate in ada["flop_per_s"].items()}
    assert min(deviations(ada | {"flop_per_s": sparse}).values()) > 0.9
    pcie, sxm = (
        next(row for row in TABLE if row["names"] == [f"NVIDIA H100 {board}"])
        for board in ("PCIe", "80GB HBM3")
    )
    assert min(deviations(pcie | {"flop_per_s": sxm["flop_per_s"]}).values()) > 0.2


@rows("units", "flop_per_s")
def test_the_figures_of_a_row_agree_on_a_clock_even_where_none_is_told(row: dict[str, Any]) -> None:
    clocks = implied_clocks(row)
    # Data-centre GPUs quote tensor figures at a lower clock; a doubled figure would be 100 % off.
    assert max(clocks.values()) < 1.2 * min(clocks.values()), clocks
    assert all(1e9 < clock < 3e9 for clock in clocks.values()), clocks


@rows("flop_per_s")
def test_rates_never_fall_as_the_format_gets_narrower(row: dict[str, Any]) -> None:
    rates = row["flop_per_s"]
    order = [n for n in ("float64", "float32", "tfloat32", "bfloat16", "int8") if n in rates]
    assert [rates[name] for name in order] == sorted(rates[name] for name in order)


@rows("memory_bus_bits", "memory_bits_per_pin_s")
def test_a_bandwidth_is_bus_width_times_data_rate(row: dict[str, Any]) -> None:
    expected = row["memory_bus_bits"] * row["memory_bits_per_pin_s"] / 8
    assert row["bytes_per_s"] == pytest.approx(expected, rel=0.03)


def test_no_row_escapes_the_arithmetic_but_those_named_here() -> None:
    escapes = [row["names"][0] for row in TABLE if "flop_per_s" in row and "units" not in row]
    # NVIDIA does not publish the SMs of the B100, nor Intel what a Gaudi does a clock.
    assert escapes == ["NVIDIA B100", "GAUDI2", "GAUDI3"]


@pytest.mark.parametrize("name", NAMES)
def test_a_listed_name_is_found_in_any_case_and_spacing(name: str) -> None:
    peak = find_peak(name)
    assert peak is not None
    assert find_peak(name.upper()) == find_peak(f"  {name.replace(' ', '  ')}\t") == peak


@given(st.text())
def test_a_name_that_is_not_listed_has_no_peak(name: str) -> None:
    listed = {" ".join(known.split()).casefold() for known in NAMES}
    assert (find_peak(name) is not None) == (" ".join(name.split()).casefold() in listed)


@given(st.sampled_from(NAMES), st.text(min_size=1), st.booleans())
def test_a_listed_name_with_anything_added_has_no_neighbours_peak(
    name: str, added: str, before: bool
) -> None:
    changed = added + name if before else name + added
    listed = {" ".join(known.split()).casefold() for known in NAMES}
    if " ".join(changed.split()).casefold() not in listed:
        assert find_peak(changed) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "NVIDIA",
        "H100",
        "NVIDIA H100",
        "NVIDIA H100 80GB",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA H800",
        "NVIDIA H20",
        "NVIDIA A100",
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "GRID A100-10C",
        "NVIDIA A10G",
        "GRID T4-16Q",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 5090 D",
        "NVIDIA GeForce RTX 3080",  # two boards of one name
        "NVIDIA GeForce RTX 2080 Ti with Max-Q Design",
        "Tesla V100-SXM3-32GB",
        "NVIDIA B300 SXM6 AC",
        "AMD Instinct MI300X VF",
        "AMD Instinct MI300X HF",
        "AMD Radeon RX 7900 XTX",
        "Apple GPU",
        "Apple M3 Max",  # two bandwidths under one name
        "Apple M4 Max",
        "Intel(R) Arc(TM) A770M Graphics",
    ],
)
def test_a_name_close_to_a_listed_one_has_no_peak(name: str) -> None:
    assert find_peak(name) is None


def test_boards_of_one_family_keep_their_own_figures() -> None:
    sxm, pcie, nvl = (find_peak(f"NVIDIA H100 {board}") for board in ("80GB HBM3", "PCIe", "NVL"))
    assert sxm
    assert pcie
    assert nvl
    figures = [peak.flop_per_s["bfloat16"] for peak in (sxm, pcie, nvl)]
    assert figures == [989.4e12, 756e12, 835.5e12]
    assert (sxm.clock_hz, sxm.tensor_clock_hz) == (1.98e9, 1.83e9)


def test_geforce_counts_16_bit_with_float32_accumulation_at_half_the_rate_of_its_chip() -> None:
    geforce, workstation = find_peak("NVIDIA GeForce RTX 3090 Ti"), find_peak("NVIDIA RTX A6000")
    assert geforce
    assert workstation  # the same 84 SMs, at a lower clock
    assert geforce.flop_per_s["float32"] > workstation.flop_per_s["float32"]
    ratio = workstation.flop_per_s["float16"] / geforce.flop_per_s["float16"]
    assert ratio == pytest.approx(2 * 1800 / 1860, rel=0.01)


def test_formats_that_a_chip_does_not_have_are_not_there() -> None:
    volta, ampere = find_peak("Tesla V100-SXM2-16GB"), find_peak("NVIDIA A10")
    assert volta
    assert ampere
    assert volta.flop_per_s.keys() == {"float64", "float32", "float16"}
    assert "float64" not in ampere.flop_per_s


def test_what_differs_between_boards_of_one_name_is_unknown() -> None:
    ambiguous = find_peak("NVIDIA GeForce RTX 3060"), find_peak("Intel(R) Arc(TM) A770 Graphics")
    assert all(peak and peak.bytes_per_s is None and peak.flop_per_s for peak in ambiguous)
    apple = find_peak("Apple M1 Max")
    assert apple
    assert (dict(apple.flop_per_s), apple.bytes_per_s) == ({}, 400e9)


@pytest.mark.parametrize(
    ("name", "measured", "low", "high"),
    [
        ("NVIDIA H200", (843e12, 850e12), 0.85, 0.865),  # a burst of bfloat16 GEMM
        ("NVIDIA H200", (743e12, 746e12), 0.74, 0.76),  # sustained
        ("NVIDIA A100-SXM4-80GB", (271e12, 271e12), 0.86, 0.875),
    ],
)
def test_known_measurements_are_a_plausible_part_of_the_peak(
    name: str, measured: tuple[float, float], low: float, high: float
) -> None:
    peak = find_peak(name)
    assert peak
    fractions = [rate / peak.flop_per_s["bfloat16"] for rate in measured]
    assert low <= min(fractions) <= max(fractions) <= high


# CPUs

AVX2 = ("avx2", "fma")
AVX512 = (*AVX2, "avx512f")
ZEN4 = (*AVX512, "avx512_bf16")
ZEN5 = (*ZEN4, "avx_vnni")
AMX = (*ZEN5, "amx_bf16")


def host(model: str, flags: tuple[str, ...], cores: int = 8) -> Host:
    return Host(cpu_model=model, cpu_flags=flags, usable_cores=cores, usable_cpus=2.0 * cores)


@pytest.mark.parametrize(
    ("model", "flags", "float32"),
    [
        ("AMD EPYC 9654 96-Core Processor", ZEN4, 32),
        ("AMD EPYC", ZEN4, 32),
        ("AMD EPYC 9575F 64-Core Processor", ZEN5, 64),
        ("AMD EPYC 9575F 64-Core Processor", ZEN4, 64),  # a hypervisor hides avx_vnni
        ("AMD EPYC 9965 192-Core Processor", ZEN5, 64),
        ("AMD EPYC", ZEN5, None),
        ("AMD Ryzen 9 7950X 16-Core Processor", ZEN4, 32),
        ("AMD Ryzen 9 9950X3D 16-Core Processor", ZEN5, 64),
        ("AMD Ryzen AI 9 HX 370 w/ Radeon 890M", ZEN5, None),
        ("AMD EPYC 7763 64-Core Processor", AVX2, 32),
        ("AMD EPYC 7B12", AVX2, 32),
        ("AMD EPYC-Rome Processor", AVX2, 32),
        ("AMD EPYC", AVX2, None),  # Zen or Zen 2
        ("AMD EPYC 7601 32-Core Processor", AVX2, 16),
        ("AMD Ryzen 5 3600 6-Core Processor", AVX2, 32),
        ("AMD Ryzen 5 3500U with Radeon Vega Mobile Gfx", AVX2, None),  # a Zen+ among the 3000s
        ("AMD Ryzen 7 2700X Eight-Core Processor", AVX2, 16),
        ("AMD Ryzen Threadripper 3990X 64-Core Processor", AVX2, 32),
        ("Intel(R) Xeon(R) Platinum 8480+", AMX, 64),
        ("Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", AVX512, 64),
        ("Intel(R) Xeon(R) Silver 4310 CPU @ 2.10GHz", AVX512, 64),
        ("Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz", AVX512, 64),
        ("Intel(R) Xeon(R) Silver 4114 CPU @ 2.20GHz", AVX512, 32),
        ("Intel(R) Xeon(R) Gold 5118 CPU @ 2.30GHz", AVX512, 32),
        ("Intel(R) Xeon(R) Gold 5222 CPU @ 3.80GHz", AVX512, 64),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", AVX512, None),
        ("Intel(R) Xeon(R) CPU E5-2690 v4 @ 2.60GHz", AVX2, 32),
        ("Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz", AVX2, 32),
        ("11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz", AVX512, None),
        ("13th Gen Intel(R) Core(TM) i9-13900K", (*AVX2, "avx_vnni"), None),  # two kinds of core
        ("Intel(R) Core(TM)2 Duo CPU E8400 @ 3.00GHz", ("sse4_2",), None),
        ("Arm Neoverse-N1", ("asimd",), 16),
        ("Arm Neoverse-V1", ("asimd", "sve"), 32),
        ("Arm Neoverse-N2", ("asimd", "sve2"), None),
        ("Some CPU", AVX512, None),
    ],
)
def test_a_core_is_told_by_name_and_flags_or_not_at_all(
    model: str, flags: tuple[str, ...], float32: int | None
) -> None:
    core = find_core(host(model, flags))
    assert (core.float32 if core else None) == float32


def test_a_cpu_peak_is_cores_times_clock_times_flop_per_clock() -> None:
    peak = cpu_peak(host("AMD EPYC 9654 96-Core Processor", ZEN4), 4, 3.5e9)
    assert peak
    assert peak.flop_per_s == {
        "float64": 4 * 3.5e9 * 16,
        "float32": 4 * 3.5e9 * 32,
        "bfloat16": 4 * 3.5e9 * 64,
    }
    assert (peak.vendor, peak.clock_hz, peak.bytes_per_s) == ("AMD", 3.5e9, None)
    amx = cpu_peak(host("Intel(R) Xeon(R) Platinum 8480+", AMX), 1, 2e9)
    assert amx
    assert amx.flop_per_s["bfloat16"] == 2e9 * 1024


def test_more_threads_than_cores_or_quota_add_nothing_to_the_peak() -> None:
    skylake = "Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz"
    assert cpu_peak(host(skylake, AVX2, 6), 12, 4e9) == cpu_peak(host(skylake, AVX2, 6), 6, 4e9)
    quota = Host(cpu_model=skylake, cpu_flags=AVX2, usable_cores=6, usable_cpus=1.5)
    peak = cpu_peak(quota, 2, 4e9)
    assert peak
    assert peak.flop_per_s["float32"] == 1.5 * 4e9 * 32


def test_a_cpu_of_unknown_clock_or_cores_or_kind_has_no_peak() -> None:
    known = host("AMD EPYC 9654 96-Core Processor", ZEN4)
    assert cpu_peak(known, 2, None) is None
    coreless = Host(cpu_model=known.cpu_model, cpu_flags=known.cpu_flags)
    assert cpu_peak(coreless, 2, 3e9) is None
    assert cpu_peak(coreless, 1, 3e9) is not None
    assert cpu_peak(Host(cpu_model=known.cpu_model, usable_cores=2), 1, 3e9) is None
    assert cpu_peak(Host(cpu_flags=AVX2, usable_cores=2), 1, 3e9) is None


def test_recorded_hosts_have_the_peak_of_their_core(tmp_path: Path) -> None:
    intel = cpu_peak(read_host(recorded("bare", tmp_path / "bare").root), 8, 3.2e9)
    assert intel
    assert intel.flop_per_s["float32"] == 8 * 3.2e9 * 64
    arm = cpu_peak(read_host(recorded("arm", tmp_path / "arm").root), 2, 2.6e9)
    assert arm
    assert arm.flop_per_s["float32"] == 2.6e9 * 32  # its affinity leaves one CPU


def test_each_core_names_where_its_figure_comes_from() -> None:
    assert all(core.source.startswith("https://") for core in CORES)
