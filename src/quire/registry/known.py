"""The last that is known of a registry: a copy on this machine, for as long as this process runs.

Every query that answers a question runs on it as on the registry itself, whether or not the server is there. It is
never kept for a later process: what was revoked meanwhile would come back with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from sqlalchemy import Connection

from quire.errors import RegistryUnreachable, RegistryUnwritable
from quire.registry import copying
from quire.registry.audit import Head, chain
from quire.registry.database import Database
from quire.registry.schema import metadata

log = logging.getLogger(__name__)


class KnownDatabase(Database):
    """Read by any thread, brought up to date by one. Nothing else writes to it."""

    synchronous = "OFF"  # it does not outlive the process, still less the machine

    def __init__(self, original: str, *, stale_seconds: float) -> None:
        """`original`: the registry's place, as it may be shown. `stale_seconds`: see `reading`."""
        self._home = TemporaryDirectory(prefix="quire-known-")  # which nobody else may read
        super().__init__(Path(self._home.name) / "registry.db", busy_seconds=10)
        self._original = original
        self._stale_seconds = stale_seconds
        self._confirmed_at = float("-inf")  # monotonic seconds
        self._as_of: Head | None = None  # of the log, by its last record that is taken into account
        self._generation = 0
        self._revoked: frozenset[str] = frozenset()  # which the registry has forgotten to be: digests, ids of keys
        self.prepare()
        with super().writing() as connection:
            metadata.create_all(connection)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Raises RegistryUnreachable once nothing has confirmed what is known for longer than `stale_seconds`."""
        since = time.monotonic() - self._confirmed_at
        if since > self._stale_seconds:
            raise RegistryUnreachable(
                f"the registry {self._original} has not answered for {since:.0f} s, and what was known of it may be"
                f" used for {self._stale_seconds:g} s",
                hint="bring its server back; registry.stale_seconds says for how long to go on without it",
            )
        with super().reading() as connection:
            yield connection

    def writing(self) -> NoReturn:
        """Refused. Raises RegistryUnwritable."""
        raise RegistryUnwritable("what is known of a registry is read only", hint="change the registry itself")

    def catch_up(self, source: Connection) -> int:
        """Bring it up to date with one snapshot of the registry. Gives the generation it then is of. Mutates.

        A registry that went back, as one restored from a backup or a standby that lacked the last changes, is taken
        over whole; what is known to be revoked stays revoked, for a lost record does not make it right again.
        """
        began = time.monotonic()
        head, generation = chain.standing(source)
        if self._as_of is None:
            self._take(copying.copy_all, source)
        elif self._as_of.records and chain.hash_at(source, self._as_of.records) != self._as_of.hash:
            log.error("the registry %s no longer holds record %d of its log", self._original, self._as_of.records)
            with super().reading() as target:
                self._revoked |= copying.revoked(target)
            self._take(copying.copy_all, source)
        elif generation != self._generation:
            self._take(partial(copying.copy_changes, since=self._as_of.records), source)
        self._as_of, self._generation, self._confirmed_at = head, generation, began
        return generation

    def _take(self, copy: Callable[[Connection, Connection], None], source: Connection) -> None:
        with super().writing() as target:
            copy(source, target)
            copying.hold_revoked(target, self._revoked)

    def close(self) -> None:
        super().close()
        self._home.cleanup()
