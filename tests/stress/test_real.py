"""Workers with the real torch and the real TensorFlow: a device that is well, and one that is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from devbench.frameworks.base import Framework
from devbench.frameworks.tensorflow import TensorFlowFramework
from devbench.frameworks.torch import TorchFramework
from devbench.stress.examine import Loaded
from devbench.stress.rates import OTHERS
from tests.stress.workers import examine

BOTH = [
    pytest.param(TorchFramework(), "cpu", marks=pytest.mark.torch, id="torch"),
    pytest.param(TensorFlowFramework(), "CPU:0", marks=pytest.mark.tensorflow, id="tensorflow"),
]
SICK = "wrong-element,nan,bit-flip,stuck-bit,sag"


@pytest.mark.parametrize(("adapter", "address"), BOTH)
def test_planted_faults_are_found_with_their_place_and_no_others(
    adapter: Framework, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"sick{adapter.name}"
    checks, events = examine(monkeypatch, tmp_path, adapter, name, address, tier=3, sick=SICK)
    said = {key: check.says for key, check in checks.items() if check.verdict == "fault"}
    assert said["integers"].startswith("number: 1 of 32,768 wrong; [32767] is ")
    assert "X.grad: 1 of 12 wrong; [3, 2] is nan instead of 15" in said["gradients"]
    repeated = said["repeated_product[float32]"]  # so it was right at first
    assert repeated.startswith("repetition 2 of the same product: 1 of 512×512 elements")
    assert "[511, 511] was " in repeated
    assert repeated.endswith("bit 20 of 32")
    assert said["memory"].startswith("pattern ones: ")  # so zeros were read as they were written
    assert "came out otherwise in" in said["product_under_load"]
    assert sum(isinstance(event, Loaded) for event in events) >= 1
    for well in ("sums", "derivative", "product[float32]", "nan_and_infinity"):
        assert checks[well].verdict == "no fault found", checks[well].says
    # Others may be at work on this machine, and then it must be said that it cannot be told.
    rate = checks["rate_kept"]
    assert rate.verdict == "fault" or (
        rate.verdict == "cannot tell"
        and any(word in rate.says for word in (*OTHERS, "uncertain", "too few", "fixed step"))
    ), rate.says
