"""devbench in Python: run, table, report, time, in a script and in a notebook."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.helpers import environment


def script(text: str, folder: Path, timeout: float = 120) -> str:
    """What a script prints; it fails with what it wrote to standard error."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", str(path)],
        env=environment(folder),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_from_python_gives_a_table_and_a_report(tmp_path: Path) -> None:
    out = script(
        """
        import sys
        import devbench
        assert not {"torch", "tensorflow", "pandas", "numpy"} & set(sys.modules)
        run = devbench.run("sum", frameworks=["fake"], quick=True, params={"n": [100, 200]})
        table = run.table()
        print(table[["case_id", "status", "numerics"]].to_csv(index=False))
        print(run.report("page.html").name)
        assert "<table" in run._repr_html_()
        print(table.attrs["units"]["median"])
        """,
        tmp_path,
    )
    assert '"sum[n=100,dtype=float32]@fake:cpu",ok,match' in out
    assert "page.html" in out
    assert out.strip().endswith("s")
    assert "<!doctype html>" in (tmp_path / "page.html").read_text(encoding="utf-8").lower()


def test_a_benchmark_declared_in_a_script_travels_to_the_worker(tmp_path: Path) -> None:
    out = script(
        """
        import devbench
        from devbench import benchmark

        @benchmark(name="double", axes={"n": [10, 20]}, size="n")
        class Double:
            def inputs(self, rng, n):
                return {"x": rng.standard_normal(n)}
            def reference(self, x):
                return 2 * x
            def fake(self, ctx, x):
                return lambda: x + x

        if __name__ == "__main__":
            run = devbench.run(Double, frameworks=["fake"], quick=True)
            print(run.results[0].case_id, run.results[0].numerics)
        """,
        tmp_path,
    )
    assert out.strip() == "double[n=10]@fake:cpu match"


def test_time_of_a_plain_function_waits_for_no_framework(tmp_path: Path) -> None:
    out = script(
        """
        import devbench, sys
        timing = devbench.time(sum, range(10000), seconds=0.05)
        assert timing.p5 <= timing.median <= timing.p95
        assert timing.first_call_s > 0
        print(timing.device, timing.clock)
        assert not {"torch", "tensorflow"} & set(sys.modules)
        """,
        tmp_path,
    )
    assert out.strip() == "the host perf_counter, no tensor of a framework seen"


def test_time_refuses_a_result_in_place_of_a_function(tmp_path: Path) -> None:
    out = script(
        """
        import devbench
        try:
            devbench.time(sum([1]))
        except devbench.DevbenchError as error:
            print(error)
        """,
        tmp_path,
    )
    assert "write f, not f(x)" in out


@pytest.mark.torch
def test_time_finds_torch_and_its_device(tmp_path: Path) -> None:
    out = script(
        """
        import torch, devbench
        a = torch.randn(4, 4)
        timing = devbench.time(torch.matmul, a, a, seconds=0.05)
        print(timing.device, timing.block > 1)  # a step of a microsecond is no sample by itself
        print(timing)
        model = torch.nn.Linear(4, 4)
        print(devbench.time(lambda: model(torch.ones(1, 4)), seconds=0.05).device)
        shape = torch.empty(2, device="meta")
        print(devbench.time(lambda one, two: one, a, shape, seconds=0.05).device)
        """,
        tmp_path,
    )
    assert out.splitlines()[0] == "torch:cpu True"
    assert " on torch:cpu (90 % of " in out
    assert out.splitlines()[-2:] == ["torch:cpu", "torch:cpu"]


@pytest.mark.tensorflow
def test_time_finds_tensorflow_and_waits_for_it(tmp_path: Path) -> None:
    out = script(
        """
        import tensorflow as tf, devbench
        a = tf.random.normal((64, 64))
        timing = devbench.time(tf.matmul, a, a, seconds=0.05)
        print(timing.device, "|", timing.clock)
        """,
        tmp_path,
    )
    assert out.strip().splitlines()[-1] == "tensorflow:CPU:0 | perf_counter, sync_devices a block"


@pytest.mark.torch
def test_a_notebook_runs_times_and_shows_a_run(tmp_path: Path) -> None:
    """The cells run in a real kernel: a class in a cell, its run shown as a table, and devbench.time."""
    out = script(
        """
        import nbclient, nbformat
        cells = [
            "import devbench, torch\\nfrom devbench import benchmark",
            "@benchmark(name='cell', axes={'n': [8]}, size='n')\\n"
            "class Cell:\\n"
            "    def inputs(self, rng, n):\\n"
            "        return {'x': rng.standard_normal(n)}\\n"
            "    def reference(self, x):\\n"
            "        return x + 1\\n"
            "    def fake(self, ctx, x):\\n"
            "        return lambda: x + 1\\n",
            "devbench.run(Cell, frameworks=['fake'], quick=True)",
            "print(devbench.time(torch.relu, torch.ones(1000), seconds=0.05).device)",
        ]
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        nbclient.NotebookClient(book, timeout=100, kernel_name="python3").execute()
        shown = book.cells[2].outputs[-1]["data"]["text/html"]
        assert "cell[n=8]@fake:cpu" in shown and "<table" in shown
        print(book.cells[3].outputs[0]["text"].strip())
        """,
        tmp_path,
    )
    assert out.strip().endswith("torch:cpu")


def test_a_hanging_case_is_ended_and_costs_its_own_row_and_the_larger_ones(tmp_path: Path) -> None:
    out = script(
        """
        import os
        os.environ["FAKE_TROUBLE"] = "hang"
        from devbench import session as sessions
        from devbench.settings import Settings
        from devbench.store import Store

        request = sessions.Request(
            select=("trouble", "sum[n=100]"),
            frameworks=("fake",),
            settings=Settings.for_quick(case_timeout_s=4.0),
            params=("n=1,2,3", "dtype=float32"),
        )
        session = sessions.prepare(request)
        with Store.open() as store:
            assert sessions.carry_out(session, store) == "complete"
            run = store.load(session.info.id)
        for measurement in sorted(run.measurements, key=lambda one: one.case_id):
            print(measurement.case_id, measurement.status, measurement.reason, measurement.detail)
        """,
        tmp_path,
    )
    rows = out.splitlines()
    assert rows[0].startswith("sum[n=100,dtype=float32]@fake:cpu ok")
    told = [row for row in rows if row.startswith("trouble")]
    assert told[0].startswith("trouble[n=1,kind=fine]@fake:cpu ok")
    assert told[1] == (
        "trouble[n=2,kind=fine]@fake:cpu timeout case-timeout no answer within 4 s; the worker was ended"
    )
    assert told[2] == "trouble[n=3,kind=fine]@fake:cpu skipped too-slow n=2 was ended after 4 s"
