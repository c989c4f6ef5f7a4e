from __future__ import annotations

import re
from pathlib import Path

import pytest

from devbench.declare import Benchmark
from devbench.registry import Source, load_catalog
from tests.suites.harness import Child, verdict

README = Path(__file__).parents[2] / "suites" / "README.md"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Benchmark, Source]:
    """The suite in the page, loaded as `--suite-path` does."""
    (text,) = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    path = tmp_path_factory.mktemp("example") / "my_suite.py"
    path.write_text(text, encoding="utf-8")
    catalog = load_catalog([path])
    return catalog.benchmarks["softmax"], catalog.sources["my_suite"]


def test_the_example_declares_what_the_page_says(example: tuple[Benchmark, Source]) -> None:
    benchmark, _ = example
    assert benchmark.builders == ("tensorflow", "torch")
    assert benchmark.reference_kind == "function"
    assert benchmark.work({"rows": 64, "dtype": "float64"}).bytes == 2 * 64 * 1000 * 8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_example_computes_its_reference(
    child: Child, example: tuple[Benchmark, Source], dtype: str
) -> None:
    params = {"rows": 64, "dtype": dtype}
    answer = child.run(example, params)
    found = verdict(example[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found


def test_every_method_and_field_in_the_page_exists() -> None:
    text = README.read_text(encoding="utf-8")
    from devbench import Context, Step, Work

    for record in (Step, Work):
        for field in record.__dataclass_fields__:
            assert f"`{field}`" in text, f"{record.__name__}.{field} is not in suites/README.md"
    for name in re.findall(r"where it runs: (.*?) \(a folder", text, re.S)[0].split(","):
        assert name.strip().strip("`") in Context.__dataclass_fields__
