"""From a location (a path or a URL) to a database that is known to be a devbench store."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import platformdirs
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from devbench.errors import StoreError
from devbench.redaction import without_password
from devbench.store import migrations, records, tables

_MAGIC: Final = b"SQLite format 3\0"
_PATIENCE_S: Final = 30.0  # for another program that is writing
_ELSEWHERE: Final = "name another with --store or DEVBENCH_STORE"


def open_engine(location: str | None, *, create: bool) -> tuple[sa.Engine, str]:
    """The store at `location` (as `Store.open` takes it), made or brought to this schema if need be.

    Returns it with the name that messages give it. With `create` false, a file that is not there is
    not made either: an empty store in memory stands in for it. Raises StoreError, and then nothing
    has been changed.
    """
    url = _url(location)
    name = url.database if url.get_backend_name() == "sqlite" else _shown(url)
    assert name is not None
    if url.get_backend_name() == "sqlite":
        if not _check_file(Path(name), create=create):
            url = sa.make_url("sqlite://")
        engine = sa.create_engine(
            url, json_serializer=records.dumps, connect_args={"timeout": _PATIENCE_S}
        )
        _begin_explicitly(engine)
    else:
        try:
            # A server ends what was idle for long, as a connection is while a case is measured.
            engine = sa.create_engine(url, json_serializer=records.dumps, pool_pre_ping=True)
        except ImportError as error:
            reason = str(error).splitlines()[0]
            raise StoreError(
                f"{name} needs a driver: pip install 'psycopg[binary]' ({reason})"
            ) from None
    try:
        with explained(name):
            _settle_schema(engine, name)
            if engine.dialect.name == "sqlite":
                _write_ahead(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine, name


@contextmanager
def explained(name: str) -> Iterator[None]:
    """What the database driver says, as one sentence."""
    try:
        yield
    except IntegrityError:
        raise  # the caller knows what it tried to add
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        reason = str(cause).strip().splitlines()[0]
        raise StoreError(
            f"the results store {name} cannot be used: {reason}; check that it is whole and that its "
            f"folder can be written, or {_ELSEWHERE}"
        ) from error


def _url(location: str | None) -> sa.URL:
    location = location or os.environ.get("DEVBENCH_STORE")
    if not location:
        folder = Path(platformdirs.user_data_dir("devbench", appauthor=False))
        return sa.URL.create("sqlite", database=str(folder / "results.sqlite"))
    if "://" not in location:
        return sa.URL.create("sqlite", database=str(Path(location).expanduser().absolute()))
    try:
        url = sa.make_url(location)
    except (ArgumentError, ValueError):
        raise StoreError(
            f"the store's URL cannot be read; {_FORMS}"
        ) from None  # it may hold a password
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg") or not url.database:
        raise StoreError(f"{_shown(url)} is no place for a results store; {_FORMS}")
    return url


def _shown(url: sa.URL) -> str:
    return without_password(url.render_as_string())  # which masks none that is a parameter


_FORMS: Final = "give a file, or postgresql+psycopg://USER@HOST/DATABASE"


def _check_file(path: Path, *, create: bool) -> bool:
    """Whether there is, or shall be, a store in this file. Only its first bytes are read: SQLite
    itself might already write to a database that belongs to somebody else."""
    try:
        if path.is_dir():
            raise StoreError(
                f"{path} is a folder; name a file in it, e.g. {path / 'results.sqlite'}"
            )
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        if create:
            _make_folder(path)
        return create
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreError(f"{path} cannot be read as a results store: {reason}") from None
    if header and not header.startswith(_MAGIC):
        raise StoreError(f"{path} is not a database; {_ELSEWHERE}")
    if header and int.from_bytes(header[68:72], "big") != tables.APPLICATION_ID:
        raise StoreError(f"{path} is a database of another application; {_ELSEWHERE}")
    return True


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the folder {path.parent} cannot be made: {error.strerror}; {_ELSEWHERE}"
        ) from None


def _begin_explicitly(engine: sa.Engine) -> None:
    """Transactions as they are asked for. Python's sqlite3 begins none for a SELECT, and a writer that
    begins as a reader fails at once, without waiting, when another one was faster."""

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        # Of a new file only. Measurements are of some 300 bytes, of which a page holds whole ones.
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("PRAGMA foreign_keys = ON")
        # In WAL mode a commit survives the death of the process; only a power cut can undo it.
        connection.execute("PRAGMA synchronous = NORMAL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def transaction(engine: sa.Engine, *, writes: bool) -> Iterator[sa.Connection]:
    """One transaction, committed at the end of the block. One that writes waits for its turn first."""
    with engine.connect().execution_options(writes=writes) as connection, connection.begin():
        yield connection


def _settle_schema(engine: sa.Engine, name: str) -> None:
    with transaction(engine, writes=False) as connection:
        if _version(connection, name) == migrations.schema_version():
            return
    with transaction(engine, writes=True) as connection:
        if engine.dialect.name == "postgresql":  # two programs may make the tables at the same time
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(tables.APPLICATION_ID)))
        version = _version(connection, name)
        if version is None:
            tables.metadata.create_all(connection)
            connection.execute(sa.insert(tables.about).values(key="schema_version", value="0"))
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql(f"PRAGMA application_id = {tables.APPLICATION_ID}")
        else:
            for migrate in migrations.MIGRATIONS[version - 1 :]:
                migrate(connection)
        connection.execute(sa.update(tables.about).values(value=str(migrations.schema_version())))


def _version(connection: sa.Connection, name: str) -> int | None:
    """The store's schema version, None for an empty database. Raises StoreError if it is no store of
    ours or a newer one."""
    present = sa.inspect(connection).get_table_names()
    if tables.about.name not in present:
        if present:
            raise StoreError(f"{name} is a database of another application; {_ELSEWHERE}")
        return None
    found = int(connection.execute(sa.select(tables.about.c.value)).scalar_one())
    if found > migrations.schema_version():
        raise StoreError(
            f"{name} was made by a newer devbench (schema {found}; this one knows "
            f"{migrations.schema_version()}): upgrade devbench, or {_ELSEWHERE}"
        )
    return found


def _write_ahead(engine: sa.Engine) -> None:
    """Readers and the writer do not wait for each other. Kept in the file; asked for again in case the
    program that made it was ended in between."""
    connection = engine.raw_connection()
    deadline = time.monotonic() + _PATIENCE_S
    try:
        while True:
            try:
                connection.cursor().execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                # Of two that switch at the same moment SQLite refuses one at once, without waiting.
                if (
                    error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY
                    or time.monotonic() > deadline
                ):
                    raise
                time.sleep(0.01)
    finally:
        connection.close()
