"""Whether a GPU can be trusted: memory errors, the links, and what the driver logged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from devbench.doctor import fixes, xid
from devbench.doctor.checks import Found
from devbench.doctor.facts import Facts
from devbench.doctor.gpus import GpuFacts
from devbench.doctor.recording import FrameworkRecord
from devbench.doctor.records import CouldNotCheck, Fix
from devbench.doctor.xid import MEANINGS, UNKNOWN


def _index(gpu: GpuFacts) -> int:
    return gpu.nvml.index if gpu.nvml else 0


def _reset(facts: Facts, gpu: GpuFacts) -> Fix:
    return fixes.reset(facts, _index(gpu))


def _supported(gpu: GpuFacts, field: str) -> bool:
    """False where the board does not have it, which is an answer too. Raises CouldNotCheck."""
    record = gpu.health if gpu.health and hasattr(gpu.health, field) else gpu.nvml
    return record is None or record.unread.get(field) != "NotSupported"


def uncorrected_errors(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """H01"""
    if not _supported(gpu, "ecc_uncorrected"):
        return
    now, ever = gpu.read("ecc_uncorrected"), gpu.read("ecc_uncorrected_ever")
    if now > 0:
        yield Found(
            "error",
            f"memory had {now} errors that ECC could not correct since the driver was loaded",
            (f"NVML: {now} uncorrected since loaded, {ever} in the board's life",),
            (_reset(facts, gpu), Fix("if they come again, have the board tested and replaced")),
        )
    elif ever > 0:
        yield Found(
            "info",
            f"memory had {ever} errors that ECC could not correct in the board's life, none since the "
            "driver was loaded",
            (f"NVML: 0 uncorrected since loaded, {ever} in the board's life",),
            (Fix("watch whether they grow", (f"nvidia-smi -i {_index(gpu)} -q -d ECC",)),),
        )


def remapping(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """H02"""
    if not _supported(gpu, "remap_pending"):
        return
    if gpu.read("remap_failed"):
        yield Found(
            "error",
            "a faulty row of memory could not be replaced: the board has no spare row left there",
            ("NVML: row remapping failed",),
            (Fix("have the board replaced", (f"nvidia-smi -i {_index(gpu)} -q -d ROW_REMAPPER",)),),
        )
    elif gpu.read("remap_pending"):
        yield Found(
            "warning",
            "a faulty row of memory is to be replaced, which happens when the GPU is reset",
            ("NVML: row remapping pending",),
            (_reset(facts, gpu),),
        )


def retirement(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """H03"""
    if _supported(gpu, "retirement_pending") and gpu.read("retirement_pending"):
        yield Found(
            "warning",
            "faulty pages of memory are to be set aside, which happens when the driver is loaded anew",
            ("NVML: page retirement pending",),
            (_reset(facts, gpu),),
        )


def xid_messages(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """H04"""
    bus_id = gpu.nvml.pci_bus_id if gpu.nvml else f"0000{gpu.pci.bus_id}" if gpu.pci else None
    own = [one for one in xid.parse(facts.kernel_log) if one.bus_id == bus_id]
    for number, times in sorted(Counter(one.number for one in own).items()):
        meaning = MEANINGS.get(number, UNKNOWN)
        last = next(one for one in reversed(own) if one.number == number)
        often = "" if times == 1 else f", {times} times"
        yield Found(
            meaning.severity,
            f"the driver logged XID {number}{often}: {meaning.means}",
            (f"kernel log: {last.line}",),
            (
                fixes.reset(facts, _index(gpu), meaning.do)
                if "reset" in meaning.do
                else fixes.on_host(facts, meaning.do),
            ),
        )


def replays(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """H05"""
    if not _supported(gpu, "pcie_replays"):
        return
    before, after = gpu.read("pcie_replays"), gpu.under_load("pcie_replays")
    if after > before:
        yield Found(
            "warning",
            f"the PCIe link sent {after - before} packets again while it was used for a moment",
            (f"NVML: {before} replays at rest, {after} after the load",),
            (Fix("seat the board and its riser anew; if it stays, try another slot"),),
        )


def inactive_links(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """H06"""
    if gpu.health is None or gpu.health.nvlinks is None:
        return  # no link exists
    links = gpu.health.nvlinks
    down = [number for number, active in enumerate(links) if not active]
    elsewhere = any(
        one.health and one.health.nvlinks and any(one.health.nvlinks) for one in facts.gpus
    )
    if not down or not elsewhere:  # all down everywhere: no bridge is plugged in
        return
    yield Found(
        "error" if len(down) == len(links) else "warning",
        f"{len(down)} of {len(links)} NVLinks are inactive",
        (f"NVML: inactive links {', '.join(map(str, down))}",),
        (
            Fix(
                "see the links' state and errors", (f"nvidia-smi nvlink --status -i {_index(gpu)}",)
            ),
            Fix("check the bridges; on a board with NVSwitch, the fabric manager"),
        ),
    )


def ecc_off(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """H07"""
    if not _supported(gpu, "ecc"):
        return
    now, pending = gpu.read("ecc"), gpu.read("ecc_pending")
    if now != pending:
        yield Found(
            "info",
            f"ECC is {_on(now)} and will be {_on(pending)} after the next restart",
            (f"NVML: ECC {_on(now)}, pending {_on(pending)}",),
            (_reset(facts, gpu),),
        )
    elif not now:  # a GeForce comes so from its maker
        yield Found(
            "info" if "GeForce" in gpu.name else "warning",
            "the memory has ECC and it is off: errors go unseen",
            ("NVML: ECC off",),
            (
                fixes.on_host(
                    facts, "turn it on", f"sudo nvidia-smi -i {_index(gpu)} -e 1", "sudo reboot"
                ),
            ),
        )


def wrong_answers(facts: Facts, framework: FrameworkRecord) -> Iterator[Found]:
    """H08"""
    name = framework.name
    if framework.answer.view is None:
        return
    if not framework.arithmetic:
        raise CouldNotCheck(f"{name} did not get as far as arithmetic whose answers are known")
    for address in dict.fromkeys(one.address for one in framework.arithmetic):
        own = [one for one in framework.arithmetic if one.address == address]
        wrong = [one for one in own if one.verdict == "fault"]
        if wrong:
            device = facts.device(name, address)
            right = [one.name for one in facts.frameworks if facts.computes_right(one, device)]
            yield Found(
                "error",
                f"{name} computes wrong on {address}: {len(wrong)} of {len(own)} known answers",
                (
                    *(f"{one.check}: {one.says}" for one in wrong[:4]),
                    *([] if device is None else [f"{address}: {device.name}, {device.physical}"]),
                    *(f"{other} gives every known answer on the same device" for other in right),
                ),
                tuple(_way_out(facts, name, address, right)),
                "likely" if right else "certain",
            )
    unsure = [one for one in framework.arithmetic if one.verdict == "cannot tell"]
    if unsure:
        raise CouldNotCheck(
            "; ".join(f"{one.check} on {one.address}: {one.says}" for one in unsure)
        )


def _way_out(facts: Facts, name: str, address: str, right: list[str]) -> Iterator[Fix]:
    """A build is put right by installing it, a device is not."""
    again = fixes.framework_again(facts, name)
    if right:
        yield Fix(f"it is most likely the build: {again.text}", again.commands)
    yield Fix(
        "look deeper: repetition, memory, load",
        (f"devbench stress --tier 3 --device {name}:{address}",),
    )
    if address.lower().startswith("cpu"):
        yield Fix(
            "if it stays: take back overclocking, test the machine's memory (memtest86+), use another "
            "machine meanwhile"
        )
    else:
        yield Fix(
            "if it stays: reset the GPU, cool it, have the board tested; trust no result of it"
        )
    if not right:
        yield Fix(f"or it is the build: {again.text}", again.commands)


def _on(value: bool) -> str:
    return "on" if value else "off"
