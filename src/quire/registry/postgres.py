"""PostgreSQL's side of a registry: a driver that gives up in time, and what its errors mean.

A server that was stopped, or is behind a cable that was cut, keeps its connections open and says nothing. No setting of
the server ends that wait, and TCP's own takes minutes; so the client counts the seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.dialects import registry as dialects

from quire.errors import InvalidSetting

if TYPE_CHECKING:
    from psycopg import Connection as DriverConnection
    from psycopg.abc import PQGen

DRIVER = "postgresql+quire"
CONNECT_SECONDS = 2  # libpq's least
dialects.register(DRIVER.replace("+", "."), "quire.registry.pinging", "Dialect")

# https://www.postgresql.org/docs/current/errcodes-appendix.html
BUSY_STATES = {"55P03", "40P01", "40001"}  # lock not available, deadlock, serialization failure
UNWRITABLE_STATES = {"25006", "42501", "53100"}  # read only, insufficient privilege, disk full
REFUSED_STATES = {"P0001"}  # a trigger of ours raised it
_UNREACHABLE_CLASSES = ("08", "57P", "53300")  # connection lost, shutting down or starting up, too many connections


def is_unreachable(sqlstate: str | None) -> bool:
    """Whether an error says that there is no server to talk to now. None: it did not come from a server at all."""
    return sqlstate is None or sqlstate.startswith(_UNREACHABLE_CLASSES)


def create_postgres_engine(url: URL, place: str, *, pool_seconds: float, answer_seconds: float) -> Engine:
    """`place`: the URL as it may be shown. `answer_seconds`: how long a silent server is waited for.

    Raises:
        InvalidSetting: the driver is not installed.
    """
    try:
        driver = _driver(answer_seconds)
        engine = create_engine(
            url.set(drivername=DRIVER), pool_pre_ping=True, pool_timeout=pool_seconds, pool_size=8, max_overflow=24
        )
    except ModuleNotFoundError as error:
        raise InvalidSetting(
            f"the registry {place} needs the driver {error.name!r}, which is not installed",
            hint="pip install 'quire[postgres]'",
        ) from error

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, arguments: Any, named: Any) -> DriverConnection[Any]:
        try:
            return driver.connect(*arguments, **{"connect_timeout": CONNECT_SECONDS, **named})
        except driver.Error as error:
            # The frames below hold the socket for as long as anybody holds the error: to the server, which waits for it
            # even while it shuts down, that is a client about to speak.
            raise error.with_traceback(None) from None

    return engine


@contextmanager
def patient(connection: Connection, seconds: float) -> Iterator[None]:
    """Wait `seconds` longer for what is known to take its time: a lock that others hold, a change of the schema."""
    driver: Any = connection.connection.driver_connection
    driver.patience += seconds
    try:
        yield
    finally:
        driver.patience -= seconds


def _driver(answer_seconds: float) -> type[DriverConnection[Any]]:
    from psycopg import Connection, OperationalError

    class Impatient(Connection[Any]):
        """Closes itself when the server has said nothing for too long: what it says later belongs to nobody."""

        patience = answer_seconds

        def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
            began = time.monotonic()
            try:
                return super().wait(gen, interval, self.patience if timeout is None else timeout)
            except OperationalError as error:
                if timeout is not None or time.monotonic() - began < self.patience:
                    raise
                self.pgconn.finish()
                raise OperationalError(f"it said nothing for {self.patience:g} s") from error

    return Impatient
