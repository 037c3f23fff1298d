"""Following a registry: what other processes change is applied here within a moment, and told to who wants to know.

A look asks for the newest generation and takes over what is new. One is due every `poll_seconds`, and at once after a
change by this process, or when somebody sends word of one (`wake`): that word may get lost, the looks do not.
Where the registry is on a server, questions are answered from a copy, which stays when the server is gone
(`quire.registry.known`), unless it is for few questions. SQLite is as near as a copy would be and is read itself.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from quire.access import AccessEvent, KeyRecord
from quire.errors import QuireError, RegistryUnreachable
from quire.registry.audit import chain
from quire.registry.database import Database
from quire.registry.gateways import BEAT_SECONDS
from quire.registry.known import KnownDatabase
from quire.registry.registry import Registry

log = logging.getLogger(__name__)

ANSWER_SECONDS = 2.0  # a server that takes longer to say its generation counts as gone


@dataclass(frozen=True, slots=True)
class FollowerState:
    """`generation`: what is applied. `behind_seconds`: since the last look that succeeded. `error`: of the last one.

    `missing`: somebody has told of a later generation.
    """

    generation: int
    behind_seconds: float
    missing: bool
    error: str | None


class Follower:
    """Threads may share one. Until `start` and for SQLite, what it knows is the registry itself."""

    def __init__(self, registry: Registry, place: str, *, poll_seconds: float, stale_seconds: float) -> None:
        """`stale_seconds`: how long to go on with what is known of a server that does not answer."""
        self.registry = registry
        self.known = registry
        self.keys = FollowedKeys(self)
        self._place = place
        self._poll_seconds = poll_seconds
        self._stale_seconds = stale_seconds + poll_seconds + ANSWER_SECONDS  # a look that finds out takes its time
        self._source: Database | None = None
        self._copy: KnownDatabase | None = None
        self._told: list[Callable[[int], None]] = []
        self._generation = -1
        self._heard = -1
        self._confirmed_at = float("-inf")
        self._error: str | None = None
        self._looking = threading.Lock()
        self._wake = threading.Event()
        self._applied = threading.Event()
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def start(self, *, copy: bool = True) -> None:
        """Take over what there is, and follow from now on. May be called twice. Raises RegistryError: nothing began.

        Without `copy` a server is asked each question itself, and nothing is known without it: for who asks but a few.
        """
        if self._source:
            return
        self._source = Database(self._place, busy_seconds=ANSWER_SECONDS, answer_seconds=ANSWER_SECONDS)
        if copy and not self._source.is_sqlite:
            self._copy = KnownDatabase(self._source.place, stale_seconds=self._stale_seconds)
        try:
            self._look()
        except BaseException:
            self._let_go()
            raise
        if self._copy:
            self.known = Registry(self._copy)
        self.registry.audit.listen(self._changed_here)
        self._run(self._follow, "quire-follower")

    def listen(self, tell: Callable[[int], None]) -> None:
        """Call `tell` with each generation that was applied, from the follower's thread or that which made a change.

        It must be quick and must not raise.
        """
        self._told.append(tell)

    def announce(self, name: str) -> None:
        """Let the registry know this process as a server of that name, and what it has applied."""
        gateway_id = f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._run(lambda: self._beat(gateway_id, name), "quire-beat")

    def wake(self, generation: int = 0) -> None:
        """Look at once: somebody says that something changed, and which generation it is now."""
        self._heard = max(self._heard, generation)
        self._wake.set()

    def check(self) -> None:
        """Whether questions can be answered: what is known of a server that is gone will do. Raises RegistryError."""
        if self._copy:
            self.known.generation()
        else:
            self.registry.check()

    def state(self) -> FollowerState:
        behind = time.monotonic() - self._confirmed_at
        return FollowerState(self._generation, behind, self._heard > self._generation, self._error)

    def close(self) -> None:
        """Stop following. May be called twice."""
        self._stopping = True
        self._wake.set()
        self._applied.set()
        for thread in self._threads:
            thread.join()
        self._threads = []
        self.known = self.registry
        self._let_go()

    def _let_go(self) -> None:
        for database in (self._source, self._copy):
            if database:
                database.close()
        self._source = self._copy = None

    def _run(self, work: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _changed_here(self, _generation: int) -> None:
        """Who made a change here must see it in the next answer."""
        self._try_to_look()

    def _follow(self) -> None:
        while not self._stopping:
            self._wake.wait(self._poll_seconds)
            self._wake.clear()
            if not self._stopping:
                self._try_to_look()

    def _try_to_look(self) -> None:
        try:
            self._look()
        except QuireError as error:
            if self._error is None:
                log.error("the registry cannot be followed: %s", error.message)
            self._error = error.message
        else:
            if self._error is not None:
                log.warning("the registry is followed again, at generation %d", self._generation)
            self._error = None

    def _look(self) -> None:
        with self._looking:
            began = time.monotonic()
            if self._source is None:
                raise RegistryUnreachable("nothing is followed", hint="start the follower")
            with self._source.reading() as connection:
                generation = self._copy.catch_up(connection) if self._copy else chain.generation(connection)
            if generation != self._generation:
                for tell in self._told:
                    tell(generation)
                self._generation = generation
                self._applied.set()
            self._confirmed_at = began

    def _beat(self, gateway_id: str, name: str) -> None:
        started_at, rows = datetime.now(UTC), self.registry.gateways
        while not self._stopping:
            try:
                if self._generation >= 0:  # it has started to follow
                    rows.beat(gateway_id, name, started_at, self._generation, self._stale_seconds)
            except QuireError as error:
                log.debug("this server could not be announced: %s", error.message)
            self._applied.wait(BEAT_SECONDS)
            self._applied.clear()
        try:
            rows.leave(gateway_id)
        except QuireError as error:
            log.warning("the registry could not be told that this server stops: %s", error.message)


class FollowedKeys:
    """`access.KeyStore`: what requests bring is looked up in what is known, the rest is done where keys are kept."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    def find(self, key_id: str) -> KeyRecord | None:
        return self._follower.known.keys.find(key_id)

    def add(self, record: KeyRecord, event: AccessEvent) -> None:
        self._follower.registry.keys.add(record, event)

    def all(self, tenant: str | None) -> list[KeyRecord]:
        return self._follower.registry.keys.all(tenant)

    def revoke(self, key_id: str, at: datetime, event: AccessEvent) -> None:
        self._follower.registry.keys.revoke(key_id, at, event)

    def used(self, moments: Mapping[str, datetime]) -> None:
        self._follower.registry.keys.used(moments)
