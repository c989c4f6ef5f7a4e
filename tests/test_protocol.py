from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devbench.protocol import VERSION, ProtocolError, decode, encode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(["samples", "detail", "params"]), VALUES))
def test_a_message_arrives_as_it_was_sent_on_one_line(fields: dict[str, object]) -> None:
    line = encode("measured", **fields)
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert line.isascii()
    assert decode(line) == {"v": VERSION, "type": "measured", **fields}


@pytest.mark.parametrize(
    "line",
    ["", "\n", "2026-01-01 I tensorflow/core: loaded\n", "[1, 2]", '"ready"', "{}", '{"v": 1}'],
)
def test_what_is_no_message_is_refused(line: str) -> None:
    with pytest.raises(ProtocolError, match="not a message"):
        decode(line)


def test_a_long_line_that_is_no_message_is_quoted_in_part() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode("x" * 10_000)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_refused_with_both_versions(version: object) -> None:
    with pytest.raises(ProtocolError, match="install the same devbench on both sides") as caught:
        decode(json.dumps({"v": version, "type": "ready"}))
    assert f"version {version!r} and this devbench speaks {VERSION}" in str(caught.value)


NOISY = """
import os, sys
from devbench.protocol import claim_stdout, encode
print("before", flush=True)
out = claim_stdout()
print("a library prints")
os.write(1, b"a C++ library writes\\n")
os.system("echo a child prints")
out.write(encode("ready"))
out.flush()
"""


def test_what_libraries_print_stays_out_of_the_protocol() -> None:
    done = subprocess.run([sys.executable, "-c", NOISY], check=True, capture_output=True, text=True)
    assert done.stdout == "before\n" + encode("ready")
    for noise in ("a library prints", "a C++ library writes", "a child prints"):
        assert noise in done.stderr
