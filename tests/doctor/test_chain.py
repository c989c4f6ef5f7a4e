from __future__ import annotations

from dataclasses import replace

from devbench.doctor import diagnose
from devbench.doctor.records import Chain
from devbench.doctor.table import LINKS
from tests.doctor import faults
from tests.doctor.machines import (
    NODES,
    blind,
    framework,
    gpu_calls,
    no_nvml,
    one_gpu,
    rocm,
    server,
    uuid,
    with_variables,
)


def states(chain: Chain) -> list[str]:
    return [link.state for link in chain.links]


def test_both_frameworks_are_judged_side_by_side_on_one_gpu() -> None:
    torch, tensorflow = diagnose(faults.cpu_wheel()).chains
    assert (torch.gpu, torch.framework, tensorflow.framework) == (uuid(0), "torch", "tensorflow")
    assert torch.gpu == tensorflow.gpu
    assert tensorflow.works
    assert torch.broken is not None
    assert torch.broken.name == "build"
    assert torch.broken.because == "D01: torch 2.13.0+cpu is a build for the CPU only"


def test_the_chain_stops_at_the_first_broken_link() -> None:
    """A CPU-only build does not matter where there is no driver."""
    machine = replace(faults.nouveau(), frameworks=faults.cpu_wheel().frameworks[:1])
    diagnosis = diagnose(with_variables(machine, CUDA_VISIBLE_DEVICES="-1"))
    (chain,) = diagnosis.chains
    assert [link.name for link in chain.links] == list(LINKS)
    assert states(chain) == ["holds", "broken"] + ["not reached"] * 7
    assert [one.id for one in diagnosis.findings] == ["D18"]


def test_equal_gpus_in_another_order_in_each_framework_are_told_apart() -> None:
    """TensorFlow numbers the eight GPUs backwards, and its kernel fails on the last of them."""
    machine = server()
    torch, tensorflow = machine.frameworks
    trials = (
        *tensorflow.trials[:7],
        replace(tensorflow.trials[7], error="InternalError: no context"),
    )
    machine = replace(machine, frameworks=(torch, replace(tensorflow, trials=trials)))
    broken = [chain for chain in diagnose(machine).chains if not chain.works]
    assert [(chain.framework, chain.gpu) for chain in broken] == [("tensorflow", uuid(0))]


def test_a_driver_that_answers_nothing_is_unknown_and_not_wrong() -> None:
    diagnosis = diagnose(no_nvml(one_gpu(), "did not come back within 30 s"))
    torch = next(chain for chain in diagnosis.chains if chain.framework == "torch")
    told = {link.name: link for link in torch.links}
    assert told["NVML"].state == "unknown"
    assert told["NVML"].because == "NVML does not answer (did not come back within 30 s)"
    unchecked = {one.id: one.reason for one in diagnosis.unchecked}
    assert {"H01", "H07", "S02", "S03"} <= unchecked.keys()
    assert unchecked["H01"] == "NVML does not list this GPU"


def test_nvml_that_fails_on_every_call_of_a_gpu_leaves_the_rest_of_the_diagnosis() -> None:
    machine = one_gpu()
    dumb = {call: {"error": "Unknown"} for call in gpu_calls() if "HandleByIndex" not in call}
    diagnosis = diagnose(replace(machine, calls={**machine.calls, **dumb}))
    assert {one.id for one in diagnosis.unchecked} >= {
        "H01",
        "H02",
        "H03",
        "H07",
        "S03",
        "S05",
        "S06",
    }
    assert diagnosis.findings == ()


def test_a_gpu_that_the_user_hid_is_no_fault() -> None:
    machine = with_variables(server(), CUDA_VISIBLE_DEVICES="0")
    kept = (
        framework("torch", [uuid(0)], loads=()),
        framework("tensorflow", ["0000:01:00.0"]),
    )
    diagnosis = diagnose(replace(machine, frameworks=kept))
    assert diagnosis.findings == ()
    hidden = [chain for chain in diagnosis.chains if chain.gpu == uuid(5)]
    assert {chain.broken.because for chain in hidden if chain.broken} == {
        "hidden by CUDA_VISIBLE_DEVICES='0'"
    }
    assert "torch computes on 1 of 8 GPUs." in diagnosis.summary


def test_an_amd_gpu_has_no_link_of_nvidia() -> None:
    (chain,) = diagnose(rocm()).chains
    assert "NVML" not in [link.name for link in chain.links]
    assert chain.works


def test_what_ran_on_nvidia_does_not_work_on_the_amd_gpu_beside_it() -> None:
    machine = one_gpu()
    both = replace(machine, pci=(*machine.pci, *rocm().pci), entries=(*NODES, *rocm().entries))
    works = {(one.framework, one.gpu): one.works for one in diagnose(both).chains}
    assert works["torch", uuid(0)]
    assert not works["torch", "00000000:c3:00.0"]
    assert not works["tensorflow", "00000000:c3:00.0"]


def test_of_two_amd_gpus_the_place_on_the_bus_tells_which_one_is_used() -> None:
    machine = rocm()
    (torch,), (first,) = machine.frameworks, machine.pci
    view = torch.answer.view
    assert view is not None
    cpu, gpu = view.devices
    placed = replace(view, devices=(cpu, replace(gpu, pci_bus_id="0000:C3:00.0")))
    machine = replace(
        machine,
        pci=(first, replace(first, bus_id="0000:c4:00.0")),
        frameworks=(replace(torch, answer=replace(torch.answer, view=placed)),),
    )
    used, idle = diagnose(machine).chains
    assert (used.works, idle.works) == (True, False)


def test_a_lost_gpu_is_named_and_the_others_are_still_judged() -> None:
    found = {(one.id, one.gpus) for one in diagnose(faults.lost()).findings}
    assert ("D23", (uuid(3),)) in found
    assert ("H04", (uuid(3),)) in found
    beside = [one for one in diagnose(faults.lost()).findings if one.id == "D25"]
    assert {(one.framework, len(one.gpus)) for one in beside} == {("torch", 7), ("tensorflow", 7)}
    for one in beside:
        assert one.says.endswith("runs nothing on this GPU, while another one is lost")
        assert one.fixes[-1].commands[-1] == "export CUDA_VISIBLE_DEVICES=0,1,2,4,5,6,7"


def test_what_is_said_alike_of_several_gpus_is_said_once() -> None:
    machine = replace(server(), frameworks=blind())
    findings = [one for one in diagnose(machine).findings if one.framework == "torch"]
    assert [(one.id, len(one.gpus)) for one in findings] == [("D25", 8)]


def test_an_inference_about_a_build_is_not_made_where_a_kernel_ran() -> None:
    """An old driver with CUDA's forward compatibility runs newer builds."""
    machine = faults.old_driver()
    machine = replace(machine, frameworks=one_gpu().frameworks)
    assert diagnose(machine).findings == ()


def test_a_disturbed_measurement_is_no_finding() -> None:
    """numpy itself fell to a tenth meanwhile: somebody else was on the CPUs."""
    rates = {"numpy": 1e11, "float32": 1e10, "numpy again": 1e10}
    machine = one_gpu()
    torch = framework("torch", rates=rates)
    diagnosis = diagnose(replace(machine, frameworks=(torch, *machine.frameworks[1:])))
    assert diagnosis.findings == ()
    assert ("S15", "torch") in {(one.id, one.framework) for one in diagnosis.unchecked}


def test_arithmetic_that_only_one_framework_gets_wrong_is_its_builds_fault() -> None:
    (finding,) = (one for one in diagnose(faults.wrong_sums()).findings if one.id == "H08")
    assert (finding.framework, finding.confidence) == ("torch", "likely")
    assert "tensorflow gives every known answer on the same device" in finding.evidence
    assert f"cuda:0: NVIDIA GeForce RTX 4090, {uuid(0)}" in finding.evidence
    assert finding.fixes[0].text.startswith("it is most likely the build")
    alone = replace(faults.wrong_sums(), frameworks=faults.wrong_sums().frameworks[:1])
    (finding,) = (one for one in diagnose(alone).findings if one.id == "H08")
    assert finding.confidence == "certain"
    assert finding.fixes[-1].text.startswith("or it is the build")


def test_arithmetic_that_could_not_be_told_is_no_finding() -> None:
    torch, tensorflow = one_gpu().frameworks
    unsure = replace(torch.arithmetic[0], verdict="cannot tell", says="memory ran out")
    machine = replace(one_gpu(), frameworks=(replace(torch, arithmetic=(unsure,)), tensorflow))
    assert diagnose(machine).findings == ()
    reasons = {one.framework: one.reason for one in diagnose(machine).unchecked if one.id == "H08"}
    assert reasons == {"torch": "integers on cpu: memory ran out"}
    # An older recording has none.
    machine = replace(one_gpu(), frameworks=(replace(torch, arithmetic=()),))
    (unchecked,) = (one for one in diagnose(machine).unchecked if one.id == "H08")
    assert unchecked.reason == "torch did not get as far as arithmetic whose answers are known"
