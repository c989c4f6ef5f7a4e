"""What only a real NVIDIA GPU can show. Skipped by name on a machine without one."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from tests.helpers import DevBench

pytestmark = [pytest.mark.gpu, pytest.mark.torch]


def test_detect_joins_torch_and_nvml_on_the_same_gpu(devbench_cli: DevBench) -> None:
    answer = json.loads(devbench_cli("detect", "--json").stdout)
    [first, *_] = answer["gpus"]
    assert first["uuid"].startswith("GPU-")
    seen = [device for device in answer["devices"] if device["address"] == "cuda:0"]
    assert [device["physical"] for device in seen] == [first["uuid"]]


def test_a_quick_run_on_the_gpu_is_right_and_timed_with_events(devbench_cli: DevBench) -> None:
    words = ["run", "matmul", "mlp", "cnn", "--quick", "--framework", "torch", "--device", "cuda:0"]
    done = devbench_cli(*words, "--json", timeout=300)
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout)["results"]:
        assert row["status"] == "ok", row["reason"]
        assert row["numerics"] == "match", row
        assert row["clock"] == "cuda events around queued steps"
        assert row["physical_device"].startswith("GPU-")
        assert row["driver"]
        assert row["peak_memory_bytes"] > 0


def test_the_gemm_ceiling_is_near_the_datasheet_s_and_not_above_it(devbench_cli: DevBench) -> None:
    words = ["run", "matmul[n=256]", "--param", "dtype=float32,bfloat16", "--quick"]
    done = devbench_cli(*words, "--framework", "torch", "--device", "cuda:0", "--json", timeout=300)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)["run"]["environment"]["targets"]["torch:cuda:0"]
    if facts["peak"] is None:
        pytest.skip(f"no datasheet of {facts['device_name']} is known")
    for dtype, gemm in facts["ceilings"]["gemm"].items():
        share = gemm["burst"] / facts["peak"]["flop_per_s"][dtype]
        assert 0.5 < share < 1.05, (dtype, share)


@pytest.mark.parametrize("n", [1024, 4096])
def test_events_agree_with_the_wall_clock(n: int) -> None:
    """A queued block, timed by its events and by the host's clock around one synchronisation. The
    smaller product takes about 50 µs on a large GPU."""
    script = """
        import sys, time, torch, statistics
        from devbench.frameworks.torch import TorchFramework
        framework = TorchFramework()
        framework.start(None, 4)
        n = int(sys.argv[1])
        a = torch.randn(n, n, device="cuda:0")
        timer = framework.timer("cuda:0")
        timer(lambda: a @ a, 20)
        events = statistics.median(timer(lambda: a @ a, 50))
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(50):
            a @ a
        torch.cuda.synchronize()
        wall = (time.perf_counter() - start) / 50
        print(events / wall)
    """
    words = [sys.executable, "-P", "-c", textwrap.dedent(script), str(n)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert 0.98 < float(done.stdout) < 1.02


@pytest.mark.tensorflow
def test_tensorflow_moves_to_the_gpu_no_faster_than_the_link_allows(
    devbench_cli: DevBench,
) -> None:
    """A tensor that was moved before is found there: the second move then reads microseconds."""
    done = devbench_cli("run", "matmul[n=256]", "--quick", "--json", timeout=300)
    assert done.returncode == 0, done.stderr
    targets = json.loads(done.stdout)["run"]["environment"]["targets"]
    torch = targets["torch:cuda:0"]["ceilings"]["transfers"]
    tensorflow = targets["tensorflow:GPU:0"]["ceilings"]["transfers"]
    assert tensorflow["h2d"] <= 1.2 * torch["h2d_pinned"]
    assert tensorflow["d2h"] <= 1.2 * torch["d2h_pinned"]
