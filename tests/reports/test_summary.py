"""Each sentence has its figure, and none says more than the rows do."""

from __future__ import annotations

from devbench.doctor.attribution import Attribution, Cause
from devbench.model import Result, Run
from devbench.stats.crossover import find_crossovers
from devbench_reports import summary
from devbench_reports.environment import machine
from devbench_reports.panels import groups
from tests.reports import factory


def topics(run: Run, rows: list[Result]) -> dict[str, list[str]]:
    return dict(summary.sentences(run, rows, find_crossovers(run, rows)))


def test_headline_gives_time_interval_and_rate_of_every_target() -> None:
    rows = factory.sweep()
    text = topics(factory.run(rows), rows)["matmul"][0]
    assert text.startswith(
        "At n=4096, dtype=float32, torch:cpu takes 654 ms ± 2.0 % a step (210 GFLOP/s)"
    )
    for name in factory.DEVICES:
        assert f"{name} takes" in text


def test_overlapping_intervals_are_called_no_difference() -> None:
    rows = [factory.result(median=0.0103), factory.result("tensorflow:CPU:0", median=0.01)]
    (text,) = topics(factory.run(rows), rows)["matmul"]
    assert "show no difference beyond the noise (ratio 0.971; their 95 % intervals overlap)" in text
    assert "times as fast" not in text


def test_a_clear_difference_names_the_faster_one_first_with_the_interval() -> None:
    rows = [factory.result(median=0.02), factory.result("tensorflow:CPU:0", median=0.01)]
    (text,) = topics(factory.run(rows), rows)["matmul"]
    assert (
        "tensorflow:CPU:0 is 2.00 times as fast (95 % interval 1.94 to 2.06) as torch:cpu" in text
    )


def test_crossover_names_the_size_and_the_figure_at_the_largest() -> None:
    rows = factory.sweep()
    said = topics(factory.run(rows), rows)["mlp"]
    assert any(
        text.startswith(
            "With phase=train_step, from batch = 256 on, tensorflow:GPU:0 beats tensorflow:CPU:0"
        )
        and "at batch = 2048 it is 28.6 times as fast" in text
        for text in said
    )


def test_a_device_that_is_slower_at_the_largest_size_is_not_said_to_beat_anything() -> None:
    rows = [
        factory.result(name, {"n": n}, median=median)
        for name, n, median in (
            ("torch:cpu", 256, 0.02),
            ("torch:cuda:0", 256, 0.01),
            ("torch:cpu", 512, 0.02),
            ("torch:cuda:0", 512, 0.05),
        )
    ]
    text = " ".join(topics(factory.run(rows), rows)["matmul"])
    assert "torch:cpu beats torch:cuda:0; at n = 512 it is 2.50 times as fast" in text
    assert "torch:cuda:0 beats" not in text


def test_a_crossing_is_said_with_its_interval_and_with_one_round_without() -> None:
    for rounds, basis in ((5, "95 % interval 256 to 1024"), (1, "one round, so no interval")):
        rows = [
            factory.result(name, {"n": n}, median=median, rounds=rounds)
            for name, n, median in (
                ("torch:cpu", 256, 0.01),
                ("torch:cuda:0", 256, 0.02),
                ("torch:cpu", 1024, 0.04),
                ("torch:cuda:0", 1024, 0.02),
            )
        ]
        text = " ".join(topics(factory.run(rows), rows)["matmul"])
        assert f"From n ≈ 512 on ({basis}), torch:cuda:0 beats torch:cpu; at n = 1024" in text
        assert "to be moved" not in text, "without measured copies nothing is said of moving"


def test_an_advantage_that_fades_is_not_carried_on_to_the_largest_size() -> None:
    rows = [
        factory.result(name, {"n": n}, median=median)
        for name, n, median in (
            ("torch:cpu", 256, 0.01),
            ("torch:cuda:0", 256, 0.02),
            ("torch:cpu", 512, 0.02),
            ("torch:cuda:0", 512, 0.02),
        )
    ]
    text = " ".join(topics(factory.run(rows), rows)["matmul"])
    assert "Up to n = 256, torch:cpu beats torch:cuda:0; above, there is no difference" in text
    assert "at n = 512 there is no difference beyond the noise (ratio 1.00" in text


def test_one_round_says_that_there_is_no_interval() -> None:
    rows = factory.sweep(rounds=1)
    (text,) = topics(factory.run(rows), rows)["rounds"]
    assert text.startswith("Every figure comes from one round")
    assert "no interval" in text
    mixed = [factory.result(rounds=1), factory.result(params={"n": 1})]
    assert topics(factory.run(mixed), mixed)["rounds"][0].startswith("1 of 2 figures come")
    five = factory.sweep()
    assert "rounds" not in topics(factory.run(five), five)


def test_doubts_and_missing_cases_are_counted_with_their_reasons() -> None:
    rows = factory.troubled()
    said = topics(factory.run(rows), rows)
    assert said["doubts"][0].startswith("2 of 2 measured rows are to be doubted: ")
    assert "numerics-mismatch: 0.02 at [3, 4]" in said["doubts"][0]
    assert [text.split(":")[0] for text in said["skipped or failed"]] == [
        "1 case skipped",
        "1 case out of memory",
        "1 case failed",
        "1 case crashed",
        "1 case timed out",
    ]


def test_many_missing_cases_are_counted_by_reason() -> None:
    rows = [
        factory.result(params={"n": n}, median=None, status="skipped", reason="too-slow: 63 s")
        for n in range(1, 8)
    ]
    text = topics(factory.run(rows), rows)["skipped or failed"][0]
    assert text == "7 cases skipped: 7 × too-slow: 63 s."


def test_many_doubts_are_told_once_each_with_the_range_of_their_figures() -> None:
    rows = [
        factory.result(
            params={"n": n},
            quality="suspect",
            quality_reasons=(
                f"wide-interval: ±{10 + n}% over 5 rounds",
                *(["steal: 3.0%"] * (n < 3)),
            ),
        )
        for n in range(1, 8)
    ]
    assert topics(factory.run(rows), rows)["doubts"] == [
        "7 of 7 measured rows are to be doubted: 7 × wide-interval: ±11 to ±17% over 5 rounds · "
        "2 × steal: 3.0%."
    ]


def test_spreads_that_overlap_are_said_to_be_the_reason_and_not_the_factor() -> None:
    rows = [
        factory.result(median=0.02, rounds=1, within_p5=0.001),
        factory.result("tensorflow:CPU:0", median=0.01, rounds=1),
    ]
    (text,) = topics(factory.run(rows), rows)["matmul"]
    assert "no difference beyond the noise (ratio 0.500; one round each, and what" in text
    assert "factor up to" not in text
    more = factory.result("torch:cpu", median=0.02, rounds=2, within_p5=0.001)
    (text,) = topics(factory.run([more, rows[1]]), [more, rows[1]])["matmul"]
    assert "ratio 0.500; one of them has one round, and what the two read overlaps" in text


def test_what_the_doubts_of_the_rows_say_is_not_said_again_as_an_explanation() -> None:
    row = factory.result(quality="suspect", quality_reasons=("steal: 12.0% of the CPU time",))
    group = groups(factory.run([row]), [row])[0]
    known, lasting = Cause("steal", "the hypervisor took 12 %"), Cause("turbo", "no turbo", "S11")

    def attributed(*causes: Cause) -> Attribution:
        return Attribution(
            row.suite, row.benchmark, row.target, (row.case_id,), 1, None, None, causes
        )

    assert summary.explained(group, [attributed(known)]) == []
    assert len(summary.explained(group, [attributed(known, lasting)])) == 1


def test_a_wrong_result_is_no_ground_for_a_headline() -> None:
    rows = [factory.result(quality="invalid", quality_reasons=("numerics-mismatch: 0.5",))]
    said = topics(factory.run(rows), rows)
    assert "matmul" not in said
    assert said["the run"] == ["Nothing was measured that a figure could rest on."]


def test_an_interrupted_run_says_how_far_it_came() -> None:
    rows = [factory.result(), factory.result(params={"n": 1})]
    run = factory.run(rows, state="interrupted")
    assert topics(run, rows[:1])["the run"] == ["This run was interrupted: 1 of 2 cases measured."]


def test_a_run_that_was_killed_is_not_said_to_run_for_ever() -> None:
    rows = [factory.result()]
    (said,) = topics(factory.run(rows, state="running"), rows)["the run"]
    assert said.startswith("This run has not ended, or was ended before it could say so: 1 of 1")


def test_benchmarks_that_were_not_reached_are_named() -> None:
    rows = [factory.result(benchmark=name) for name in ("matmul", "mlp", "mlp", "cnn")]
    run = factory.run(rows, state="interrupted")
    assert topics(run, rows[:1])["the run"][1] == "It did not come to mlp and cnn."
    assert len(topics(run, rows)["the run"]) == 1


def test_a_gpu_that_a_framework_does_not_see_is_said_first() -> None:
    environment = factory.environment()
    environment["machine"]["devices"] = [
        device
        for device in environment["machine"]["devices"]
        if device["physical"] == "cpu" or device["framework"] == "torch"
    ]
    rows = [factory.result()]
    said = summary.sentences(factory.run(rows, environment=environment), rows, ())
    assert said[0] == ("devices", ["Fictional F1: tensorflow does not see it."])


def test_an_amd_gpu_that_no_framework_uses_is_said() -> None:
    environment = factory.environment()
    amd = {"index": 0, "name": "AMD Instinct MI300X", "pci_bus_id": "00000000:c3:00.0"}
    environment["machine"]["amd_gpus"] = [amd]
    rows = [factory.result()]
    notes = machine(factory.run(rows, environment=environment)).notes
    assert [note for note in notes if "MI300X" in note] == [
        "AMD Instinct MI300X: torch does not see it.",
        "AMD Instinct MI300X: tensorflow does not see it.",
    ]


def test_an_amd_gpu_is_joined_with_what_a_framework_calls_it_by_its_place() -> None:
    environment = factory.environment(with_gpu=False)
    environment["machine"]["amd_gpus"] = [
        {"index": 0, "name": "MI300X", "uuid": "5dff74a1", "pci_bus_id": "00000000:c3:00.0"}
    ]
    environment["machine"]["devices"].append(
        {
            "framework": "torch",
            "address": "cuda:0",
            "kind": "cuda",
            "name": "AMD Instinct MI300X",
            "physical": "GPU-amd",
            "pci_bus_id": "0000:C3:00.0",
        }
    )
    _, gpu = machine(factory.run([], environment=environment)).devices
    assert (gpu.name, gpu.physical) == ("MI300X", "GPU-amd")
    assert gpu.seen_as == {"torch": ("torch:cuda:0",)}


def test_a_framework_that_fails_on_import_is_said_with_its_reason() -> None:
    environment = factory.environment(with_gpu=False)
    environment["machine"]["frameworks"][1] = {
        "name": "tensorflow",
        "status": "failed",
        "reason": "it ended with SIGILL",
    }
    said = topics(factory.run([factory.result()], environment=environment), [factory.result()])
    assert said["devices"] == ["tensorflow could not be asked: it ended with SIGILL."]


def test_reason_code_is_the_word_of_the_closed_list() -> None:
    assert summary.reason_code("numerics-mismatch: 0.02") == "numerics-mismatch"
    assert summary.reason_code("few-samples") == "few-samples"
