"""Where a store may be: a file, and a PostgreSQL server of the test's own where one is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a store that does not exist yet."""
    if request.param == "sqlite":
        return str(tmp_path / "results.sqlite")
    name: str = request.getfixturevalue("postgresql_location")
    return name


@pytest.fixture
def postgresql_location(postgresql: str) -> str:
    """The URL of an empty database."""
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    server = f"host={postgresql} user=devbench dbname=postgres"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"postgresql+psycopg://devbench@/{name}?host={postgresql}"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The folder of the socket of a PostgreSQL server. It refuses to run as root."""
    pytest.importorskip("psycopg", reason="psycopg is not installed", exc_type=ImportError)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))  # as Debian installs it
    initdb = str(found[-1]) if found else shutil.which("initdb")
    if initdb is None:
        pytest.skip("PostgreSQL's initdb is not installed")
    programs = Path(initdb).parent
    folder = Path(tempfile.mkdtemp(prefix="devbench-pg-"))
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    quiet: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, **who}
    data = folder / "data"
    subprocess.run(
        [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "devbench",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ],
        check=True,
        **quiet,
    )
    server = subprocess.Popen(
        [programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-F"],
        stderr=subprocess.DEVNULL,
        **quiet,
    )
    try:
        _wait_until_ready(programs, folder)
        yield str(folder)
    finally:
        server.send_signal(signal.SIGQUIT)  # at once: its data are thrown away
        server.wait(30)
        shutil.rmtree(folder)


def _wait_until_ready(programs: Path, folder: Path) -> None:
    deadline = time.monotonic() + 30
    ask = [str(programs / "pg_isready"), "-q", "-h", str(folder), "-U", "devbench"]
    while subprocess.run(ask, check=False).returncode != 0:
        assert time.monotonic() < deadline, "PostgreSQL did not start within 30 s"
        time.sleep(0.05)
