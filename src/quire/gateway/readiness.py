"""What answering depends on, one check each. To add one, write a function that raises where something is missing.

Anybody may ask whether the server is ready, so what they are told names and counts nothing: `told`, and a code. The log
has the rest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from quire.access import LOCAL
from quire.errors import ArtifactNotFound, NoLiveVersion, QuireError
from quire.telemetry import fields

if TYPE_CHECKING:
    from quire.gateway.gateway import Gateway
    from quire.registry import Registry, VersionRecord
    from quire.store import Store

    Chain = tuple[VersionRecord, ...]

log = logging.getLogger(__name__)

SEEN_SECONDS = 60.0  # for which an artifact in the object store is taken to stay there


@dataclass(frozen=True, slots=True)
class Check:
    """`run` is called in a thread and raises a QuireError where something is missing."""

    name: str
    told: str
    run: Callable[[Gateway], None]


@dataclass(frozen=True, slots=True)
class Missing:
    """A check that failed. `why`: for the log alone."""

    check: Check
    code: str
    why: str


class Readiness:
    """Whether a gateway can answer, and what is missing. Thread-safe."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._logged: tuple[Missing, ...] = ()

    def missing(self) -> tuple[Missing, ...]:
        """The checks that fail now, in their order. What has changed since the last time is logged."""
        found = []
        for check in CHECKS:
            try:
                check.run(self._gateway)
            except QuireError as error:
                found.append(Missing(check, error.code, error.message))
        for one in found:
            if one not in self._logged:
                log.warning("not ready", extra=fields(check=one.check.name, code=one.code, why=one.why))
        if self._logged and not found:
            log.info("ready again")
        self._logged = tuple(found)
        return self._logged


class LiveChains:
    """The chains of all modules that may answer, root first, read again when the registry has changed."""

    def __init__(self, known: Callable[[], Registry], answering: Callable[[Chain], Chain]) -> None:
        """`answering`: what answers in the place of a live chain, as where that is for another model."""
        self._known = known
        self._answering = answering
        self._read: tuple[int, tuple[Chain, ...]] = (-1, ())
        self._seen: dict[str, float] = {}  # when an artifact that is not on this machine was found, monotonic seconds

    def current(self) -> tuple[Chain, ...]:
        """Without those that have expired. Raises RegistryError."""
        generation, chains = self._read
        known = self._known()
        if (newest := known.generation()) != generation:
            chains = tuple(known.chain(record) for record in known.all_live())
            self._read = (newest, chains)
        now = datetime.now(UTC)
        answering = map(self._answering, chains)
        return tuple(c for c in answering if all(r.expires_at is None or r.expires_at > now for r in c))

    def check_there(self, store: Store) -> None:
        """Whether all their artifacts can be had from `store`. Raises ArtifactNotFound, StoreError."""
        records = {record.digest: record for chain in self.current() for record in chain}.values()
        if absent := sorted(str(record.ref) for record in records if not self._is_there(store, record.digest)):
            raise ArtifactNotFound(f"no artifact of {', '.join(absent)}", hint="`quire fsck` looks at all of them")

    def _is_there(self, store: Store, digest: str) -> bool:
        """An object store is not asked each time: it costs, and probes come every few seconds."""
        try:
            store.locate(digest)
        except ArtifactNotFound:
            now = time.monotonic()
            if now - self._seen.get(digest, float("-inf")) < SEEN_SECONDS:
                return True
            if not store.has(digest):
                return False
            self._seen[digest] = now
        return True


def open_modules(gateway: Gateway, which: str) -> None:
    """Lease the live modules once, or the pinned ones among them, so that the first questions find them open."""
    for chain in gateway.chains.current():
        if which == "pinned" and not chain[-1].pinned:
            continue
        try:
            gateway.runtime.pool.lease(chain, LOCAL).release()
        except QuireError as error:
            log.warning("a module could not be opened", extra=fields(module=str(chain[-1].ref), why=error.message))


def _modules(gateway: Gateway) -> None:
    """One chain can be leased; unless one is enough, the artifacts of all others are there, too."""
    chains = gateway.chains.current()
    if not chains:
        raise NoLiveVersion("no module has a live version", hint="run `quire build`")
    if gateway.project.settings["server.ready_modules"] == "all":
        gateway.chains.check_there(gateway.project.store)
        chains = chains[:1]
    failures = []
    for chain in chains:
        try:
            gateway.runtime.pool.lease(chain, LOCAL).release()
        except QuireError as error:
            failures.append(error)
        else:
            return
    raise failures[0]


def _versions(gateway: Gateway) -> None:
    """What this server cannot answer before somebody restarts it. Nothing, where one module is enough."""
    if gateway.project.settings["server.ready_modules"] == "all":
        gateway.runtime.answerer.fitting.check()


def _credentials(gateway: Gateway) -> None:
    """API keys open, whatever becomes of the issuer of tokens."""
    if not gateway.authenticator.takes_keys:
        gateway.authenticator.check()


CHECKS = (
    Check("open", "the server is shutting down", lambda gateway: gateway.check_open()),
    Check("model", "the model is being loaded", lambda gateway: gateway.check_loaded()),
    Check(
        "weights",
        "the model's files changed under this server: it must be restarted",
        lambda gateway: gateway.check_weights(),
    ),
    Check("registry", "the registry cannot be read", lambda gateway: gateway.project.follower.check()),
    Check("store", "the store cannot be read", lambda gateway: gateway.project.store.check()),
    Check("routes", "the route table cannot be had", lambda gateway: gateway.check_routes()),
    Check("versions", "live versions are for another model than this server runs: it must be restarted", _versions),
    Check("room", "no other module can be opened now", lambda gateway: gateway.runtime.pool.check_room()),
    Check("modules", "a live module cannot be restored, or there is none", _modules),
    Check("credentials", "the keys that tokens are checked with cannot be had", _credentials),
)
