"""One database, two kinds of transaction, and every driver's failure under our own name.

A reading transaction sees one snapshot however many statements it takes. A writing one excludes all other
writers from its first statement on, so that what it has read stays true until it commits: `BEGIN IMMEDIATE`
in SQLite, a transaction-scoped advisory lock in PostgreSQL.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from quire.artifact.identity import digest_bytes
from quire.descriptors import check_left
from quire.errors import (
    InvalidSetting,
    QuireError,
    RecordInvalid,
    RegistryBusy,
    RegistryError,
    RegistryUnreachable,
    RegistryUnreadable,
    RegistryUnwritable,
    ResourceError,
    lack_of,
)
from quire.registry import postgres
from quire.registry.outcomes import NOT_MADE, UNKNOWN
from quire.settings import addresses
from quire.sources.canonical import one_line

# Any number will do as long as nobody else in the same PostgreSQL database picks it ("quire" in ASCII).
_ADVISORY_LOCK = 0x7175697265
_WRITES = "quire_writes"

TO_OPEN = 4  # descriptors: a SQLite file, its log and its index; or a connection, and a look for its address
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_UNWRITABLE = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM}


class Database:
    """An engine for one registry. Thread-safe; a forked child drops the connections it inherited."""

    synchronous = "FULL"  # a publication that was reported survives a power cut, not merely a crash of the process

    def __init__(self, url: str | Path, *, busy_seconds: float, answer_seconds: float = 5.0) -> None:
        """Connects to nothing yet. `answer_seconds`: after that a server that says nothing counts as gone.

        Raises InvalidSetting unless the URL is SQLite's or PostgreSQL's, and its driver is there.
        """
        self.url = _parsed(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.place = (self.url.database or "") if self.is_sqlite else _shown(self.url)
        self._busy_seconds = busy_seconds
        self._answer_seconds = answer_seconds
        self._engine = self._create_engine()
        self._pid = os.getpid()
        self._closed = False

    @property
    def fingerprint(self) -> str:
        """Sixteen digits that tell it from other databases, whoever connects to it with whatever password."""
        query = sorted((name, value) for name, value in self.url.query.items() if name not in ("user", "password"))
        told = repr((self.url.host, self.url.port, self.url.database, query))
        return digest_bytes(told.encode())[3:19]

    def prepare(self) -> None:
        """Creates a SQLite file's folder and turns on its write-ahead log: readers never wait for writers.

        Mutates the file system only. Raises RegistryUnwritable, RegistryUnreadable, RegistryBusy.
        """
        if not self.is_sqlite:
            return
        try:
            Path(self.place).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise lack_of(error, self.place) or RegistryUnwritable(
                f"the registry's folder cannot be created: {error}", hint="check the path and its permissions"
            ) from error
        deadline = time.monotonic() + self._busy_seconds
        while not self._in_wal_mode(give_up=time.monotonic() > deadline):
            time.sleep(0.01)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction on one snapshot. Raises RegistryUnreadable, RegistryBusy.

        SQLite wants a little room on the disk even for readers, to agree with writers. Where there is none, or
        nothing may be written, and no writer is at work, the file is read as it stands: what is live still answers.
        """
        with self._named_errors(), self._reader() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that excludes other writers; all of it happens or none.

        Raises RegistryBusy after `busy_seconds`, RegistryUnwritable, RegistryUnreadable, RecordInvalid;
        RegistryUnreachable. Where it could not be written, the error's `outcome` says whether the change was made.
        """
        committing = False
        try:
            with self._named_errors(), self._usable_engine().connect() as connection:
                connection = connection.execution_options(**{_WRITES: True})
                with connection.begin():
                    if not self.is_sqlite:
                        self._exclude_others(connection)
                    yield connection
                    committing = True
        except (RegistryBusy, RegistryUnreachable, RegistryUnwritable, ResourceError) as error:
            error.tell(UNKNOWN if committing and isinstance(error, RegistryUnreachable) else NOT_MADE)
            raise

    @contextmanager
    def noting(self) -> Iterator[Connection]:
        """For rows that are this process's own: in PostgreSQL it neither waits for others nor holds them up.

        Raises as `writing`.
        """
        with self._named_errors(), self._usable_engine().connect() as connection:
            connection = connection.execution_options(**{_WRITES: True})
            with connection.begin():
                yield connection

    def _exclude_others(self, connection: Connection) -> None:
        wait = text("SELECT set_config('lock_timeout', :ms, true)")
        connection.execute(wait, {"ms": str(int(self._busy_seconds * 1000))})
        with postgres.patient(connection, self._busy_seconds):
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})

    def close(self) -> None:
        """Closes idle connections; the registry answers nothing afterwards. May be called twice."""
        self._closed = True
        self._engine.dispose(close=os.getpid() == self._pid)

    def _reader(self) -> Connection:
        engine = self._usable_engine()
        if not self.is_sqlite:
            return engine.connect()
        try:
            with engine.connect() as connection, connection.begin():
                connection.exec_driver_sql("SELECT 1 FROM sqlite_schema LIMIT 1")
        except OperationalError as error:
            if not self._stands_alone(error.orig):
                raise
            return self._frozen.connect()
        return engine.connect()

    def _stands_alone(self, error: BaseException | None) -> bool:
        """Whether `error` is a want of room or of rights, and the file holds all that was ever committed."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        log = Path(f"{self.place}-wal")
        try:
            logged = log.stat().st_size > 0
        except FileNotFoundError:
            logged = False
        except OSError:
            return False
        return self._is_readable() and not logged and code in {*_UNWRITABLE, sqlite3.SQLITE_CANTOPEN}

    def _is_readable(self) -> bool:
        return os.path.isfile(self.place) and os.access(self.place, os.R_OK)

    def _usable_engine(self) -> Engine:
        if self._closed:
            raise RegistryUnreadable(f"the registry {self.place} is closed", hint="open it again")
        if os.getpid() != self._pid:
            # A connection must not be used, or even closed, on both sides of a fork.
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        return self._engine

    def _create_engine(self) -> Engine:
        if not self.is_sqlite:
            return postgres.create_postgres_engine(
                self.url, self.place, pool_seconds=self._busy_seconds, answer_seconds=self._answer_seconds
            )
        engine = create_engine(self.url, pool_timeout=self._busy_seconds)
        self._listen(engine)
        return engine

    def _listen(self, engine: Engine) -> None:
        busy_ms = int(self._busy_seconds * 1000)

        @event.listens_for(engine, "connect")
        def connect(connection: Any, _record: object) -> None:
            # None stops the driver from starting transactions by itself, so that `begin` below decides how.
            connection.isolation_level = None
            connection.execute(f"PRAGMA busy_timeout = {busy_ms}")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA synchronous = {self.synchronous}")

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            writes = connection.get_execution_options().get(_WRITES, False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    @cached_property
    def _frozen(self) -> Engine:
        """The file alone, without its log and without locks; a connection lasts for one transaction."""
        uri = f"file:{quote(self.place)}?mode=ro&immutable=1"
        engine = create_engine(
            "sqlite://", creator=lambda: sqlite3.connect(uri, uri=True, check_same_thread=False), poolclass=NullPool
        )
        self._listen(engine)
        return engine

    def _in_wal_mode(self, *, give_up: bool) -> bool:
        """Asks for the write-ahead log. The busy timeout does not cover this pragma: the caller repeats."""
        try:
            with self._named_errors():
                raw = self._usable_engine().raw_connection()
                try:
                    # A file system without shared memory answers another mode: slower, and as correct.
                    raw.cursor().execute("PRAGMA journal_mode = WAL")
                finally:
                    raw.close()
        except RegistryBusy:
            if give_up:
                raise
            return False
        except RegistryError as error:
            cause = error.__cause__
            if not self._stands_alone(getattr(cause, "orig", cause)):
                raise
        return True

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (DataError, IntegrityError) as error:
            raise RecordInvalid(
                f"the registry {self.place} refuses the values: {one_line(str(error.orig or error))}"
            ) from error
        except DBAPIError as error:
            raise self._named(error.orig or error) from error
        except sqlite3.Error as error:
            raise self._named(error) from error
        except MemoryError as error:
            raise lack_of(error, f"the registry {self.place}") or error from error
        except PoolTimeout as error:
            raise self._busy("every connection of this process is in use") from error
        except UnicodeDecodeError as error:
            # The driver decodes before it reports: damage that reached a message or a column.
            raise self._named(error) from error
        except (UnicodeEncodeError, OverflowError) as error:
            raise RecordInvalid(
                f"text must be valid Unicode and numbers fit 64 bits, found {error}",
                hint="look for a file name or title that is not UTF-8",
            ) from error

    def _named(self, error: BaseException) -> QuireError:
        """Neither SQLite nor libpq tells that it had no descriptor: that is asked again, before they are taken at their
        word. Raises DescriptorsExhausted."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte; the rest says which kind
        state = getattr(error, "sqlstate", None)
        said = one_line(str(error))
        if code in _BUSY or state in postgres.BUSY_STATES:
            return self._busy(said)
        unreachable = not self.is_sqlite and postgres.is_unreachable(state)
        if unreachable or code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
            check_left(TO_OPEN)
        if unreachable:
            return RegistryUnreachable(
                f"the registry {self.place} cannot be reached: {said}",
                hint="check that the server runs, and the host, port, user, password and database of the URL",
            )
        if state in postgres.REFUSED_STATES:
            return RecordInvalid(f"the registry {self.place} refuses the change: {said}")
        closed = code == sqlite3.SQLITE_CANTOPEN and self._is_readable() and not os.access(self.place, os.W_OK)
        if code in _UNWRITABLE or state in postgres.UNWRITABLE_STATES or closed:
            return RegistryUnwritable(
                f"the registry {self.place} cannot be written: {said}",
                hint="check permissions, a read-only mount and free space",
            )
        if code == sqlite3.SQLITE_CANTOPEN:
            return RegistryUnreadable(
                f"the registry {self.place} cannot be opened: {said}",
                hint="it must be a file in a folder, both readable and writable by this user",
            )
        return RegistryUnreadable(
            f"the registry {self.place} does not read as one: {said}",
            hint="keep it aside and restore a backup: a new one knows no keys, no history and nothing that was revoked",
        )

    def _busy(self, said: str) -> RegistryBusy:
        return RegistryBusy(
            f"the registry {self.place} stayed locked for {self._busy_seconds:g} s: {said}",
            hint="another build or publication is running; try again when it is done",
        )


def _shown(url: URL) -> str:
    """Without the password, which libpq takes in the query too."""
    return url.set(query={}).render_as_string()


def _parsed(url: str | Path) -> URL:
    if isinstance(url, Path) or "://" not in url:
        return URL.create("sqlite", database=str(Path(url).absolute()))
    if expected := addresses.registry(url):
        raise InvalidSetting(
            f"a registry must be {expected}, found {addresses.shown(url)}",
            hint="give a path, sqlite:///path or postgresql://user@host/database",
        )
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return parsed
    return URL.create("sqlite", database=str(Path(parsed.database or "").absolute()))
