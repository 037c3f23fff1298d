"""The registry as other packages see it: each method is one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from quire.access import Reach
from quire.core import Scope
from quire.errors import RegistryUnreadable
from quire.golden import Suite
from quire.registry import catalogue, history, integrity, invalidation, lifecycle, registration, retention, rollback
from quire.registry.audit import AuditEvent, AuditLog, chain
from quire.registry.audit.anchor import anchor_of
from quire.registry.canaries import Canaries
from quire.registry.counting import Counts, count
from quire.registry.database import Database
from quire.registry.gateways import GatewayRows
from quire.registry.golden import GoldenTests
from quire.registry.invalidation import Mark
from quire.registry.keys import KeyRows
from quire.registry.records import Finding, HistoryEntry, VersionRecord
from quire.registry.revisions import bring_to_head, require_head
from quire.registry.routes import RouteDraft, RouteTables, put
from quire.registry.usage import UseRows
from quire.registry.view import View


class Registry(View):
    """The catalogue of modules. Threads may share one; processes may each open the same database.

    Methods that take a version accept any unambiguous prefix of it, and raise ModuleUnknown or
    VersionUnknown otherwise. Those that mutate want to know who (`actor`) and why (`reason`), neither empty.
    Every method raises RegistryBusy when the database stays locked, RegistryUnreadable when it is damaged;
    one that mutates also RegistryUnwritable, and then has changed nothing.

    It sees modules of every scope and its errors name them: who answers a principal reads `within` its reach. Every
    change is recorded in `audit`, in the transaction that makes it.
    """

    def __init__(self, database: Database, heads: Path | None = None) -> None:
        super().__init__(database)
        self.audit = AuditLog(database, anchor_of(database, heads))

    @classmethod
    def open(cls, url: str | Path, *, busy_seconds: float = 10.0, heads: Path | None = None) -> Self:
        """Opens or creates the registry at a path or URL (`sqlite:///path`, `postgresql://...`).

        Mutates: creates the file and its folder, and brings the schema to the newest revision.
        `busy_seconds`: how long any call waits for another writer. `heads`: a directory in which this machine keeps the
        head of the audit log of a registry on a server; that of a file is kept beside it. Raises InvalidSetting,
        RegistryUnwritable, RegistryBusy, RegistryUnreadable (damaged, of a newer Quire, of another program).
        """
        database = Database(url, busy_seconds=busy_seconds)
        registry = cls(database, heads)
        try:
            database.prepare()
            if bring_to_head(database):
                registry.audit.keep_first_head()
        except BaseException:
            database.close()
            raise
        return registry

    def within(self, reach: Reach) -> View:
        """What the catalogue looks like to somebody who sees no further than `reach`."""
        return View(self._database, reach)

    @property
    def keys(self) -> KeyRows:
        """The API keys, in the same database."""
        return KeyRows(self._database, self.audit)

    @property
    def routes(self) -> RouteTables:
        """The route tables, in the same database."""
        return RouteTables(self._database, self.audit)

    @property
    def canaries(self) -> Canaries:
        """Candidates that run beside live versions, in the same database."""
        return Canaries(self._database, self.audit)

    @property
    def golden(self) -> GoldenTests:
        """Golden tests and what came of them, in the same database."""
        return GoldenTests(self._database, self.audit)

    @property
    def gateways(self) -> GatewayRows:
        """The servers that follow this registry."""
        return GatewayRows(self._database)

    @property
    def use(self) -> UseRows:
        """What tenants used, by month."""
        return UseRows(self._database)

    def close(self) -> None:
        """Lets go of the database. May be called twice; other calls then raise RegistryUnreadable."""
        self.audit.end()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Changing

    def register(
        self, record: VersionRecord, suite: Suite | None = None, /, *, actor: str, reason: str
    ) -> VersionRecord:
        """Enters a compiled version as candidate and returns it as registered. Mutates.

        `suite`: the golden tests that a new version declares, and must pass before it goes live.

        A version that is registered already keeps its state and its pin. With the same digest nothing
        happens, except that a new `expires_at` is taken over ("renew"). With another digest, as after a
        repair or on a machine with other numerics, the record takes the place of the old one ("replace");
        children compiled on the old bytes then raise ChainBroken until they are compiled again. If it is live and
        declares golden tests, it is retired until they are green on the new bytes.
        Raises RecordInvalid, ChainBroken if the parent is not registered with the digest that is named, ScopeTooWide,
        IllegalTransition for a version that was revoked and forgotten.
        """
        with self.audit.writing() as connection:
            return registration.register(connection, record, suite, actor=actor, reason=reason)

    def publish(self, module_id: str, version: str, *, actor: str, reason: str) -> VersionRecord:
        """Makes a candidate or retired version live and retires the one that was. Mutates.

        Raises IllegalTransition, ChainBroken, GoldenNotRun, GoldenFailed; see `lifecycle` for the table and the rules.
        """
        return self.publish_many([(module_id, version)], actor=actor, reason=reason)[0]

    def publish_many(
        self, wanted: Iterable[tuple[str, str]], routes: RouteDraft | None = None, /, *, actor: str, reason: str
    ) -> tuple[VersionRecord, ...]:
        """Publishes (module_id, version) pairs, all or none, so that readers see a build as a whole. Mutates.

        `routes`: the route table that belongs to them, which comes into force in the same transaction.

        Returns the live records in the order given. Raises as `publish`, and IllegalTransition for two
        versions of one module.
        """
        with self.audit.writing() as connection:
            records = [catalogue.find(connection, module_id, version) for module_id, version in wanted]
            live = lifecycle.make_live(connection, records, action="publish", actor=actor, reason=reason)
            if routes is not None:
                put(connection, routes, actor=actor, reason=reason)
            return live

    def retire(self, module_id: str, version: str, *, actor: str, reason: str) -> VersionRecord:
        """Takes a live version out of service; none replaces it. Mutates. Raises IllegalTransition."""
        with self.audit.writing() as connection:
            record = catalogue.find(connection, module_id, version)
            return lifecycle.move(connection, record, "retired", action="retire", actor=actor, reason=reason)

    def revoke(self, module_id: str, version: str, *, actor: str, reason: str) -> tuple[VersionRecord, ...]:
        """Forbids a version, and all that was compiled after it, for good. Mutates.

        Returns the versions that this call revoked, parents first; empty if it was revoked already.
        """
        with self.audit.writing() as connection:
            record = catalogue.find(connection, module_id, version)
            return lifecycle.revoke(connection, record, actor=actor, reason=reason)

    def rollback(
        self, module_id: str, *, to: str | None = None, actor: str, reason: str
    ) -> tuple[VersionRecord | None, VersionRecord]:
        """Makes the version live again that was live before, or `to`, which must have been live. Mutates.

        Returns (what was live, None if nothing was; what is live now). Repeated, it goes further back.
        Raises NothingToRollBack, ModuleUnknown, VersionUnknown, IllegalTransition, ChainBroken, GoldenError.
        """
        with self.audit.writing() as connection:
            return rollback.roll_back(connection, module_id, to, actor=actor, reason=reason)

    def mark(self, marks: Iterable[Mark], *, actor: str, machine: bool = False) -> list[VersionRecord]:
        """Notes which versions are stale and which are not; gives the records that changed. Mutates if any did.

        `machine`: a server reports by itself. The registry takes a new mark at once. It refuses to change or clear a
        mark more often than the audit log takes records of that (`audit.folding`); `differing` then still has the mark.

        Records `invalidation.stale` and `invalidation.cleared`.
        """
        if not (news := self.differing(marks)):
            return []
        with self.audit.writing() as connection:
            return invalidation.mark(
                connection, news, actor=actor, admits=self.audit.folding.admits if machine else None
            )

    def differing(self, marks: Iterable[Mark]) -> list[Mark]:
        """Those of `marks` that differ from what the registry holds. Reads little."""
        marks = list(marks)
        with self._database.reading() as connection:
            return invalidation.news(connection, marks) if marks else []

    def narrow(
        self, declared: Mapping[str, Scope], *, actor: str, machine: bool = False, gives_back: bool = True
    ) -> list[VersionRecord]:
        """Lets only readers within the `declared` scopes read what there is of these modules; gives the records that
        changed. Mutates if any did: whoever is not within may not read them from then on, on any gateway.

        `machine`: a server does it by itself. It takes readers away at once; the registry refuses to give them back
        more often than the audit log takes records of that. `gives_back`: False leaves every version alone that
        anybody could read afterwards who cannot read it now.

        Records `invalidation.narrowed`.
        """
        if not self.is_to_narrow(declared):
            return []
        with self.audit.writing() as connection:
            admits = self.audit.folding.admits if machine else None
            return invalidation.narrow(connection, declared, actor=actor, admits=admits if gives_back else _refuse)

    def is_to_narrow(self, declared: Mapping[str, Scope]) -> bool:
        """Whether `narrow` would change something. Reads little."""
        with self._database.reading() as connection:
            return invalidation.is_to_narrow(connection, declared)

    def rollback_target(self, module_id: str, to: str | None = None) -> VersionRecord:
        """The version that `rollback` would make live. Raises as that."""
        with self._database.reading() as connection:
            return rollback.find_target(connection, module_id, to)

    def pin(self, module_id: str, version: str, *, actor: str, reason: str) -> VersionRecord:
        """Protects a version from garbage collection. Mutates."""
        with self.audit.writing() as connection:
            record = catalogue.find(connection, module_id, version)
            return retention.set_pin(connection, record, True, actor=actor, reason=reason)

    def unpin(self, module_id: str, version: str, *, actor: str, reason: str) -> VersionRecord:
        """Takes the protection away. Mutates."""
        with self.audit.writing() as connection:
            record = catalogue.find(connection, module_id, version)
            return retention.set_pin(connection, record, False, actor=actor, reason=reason)

    def forget(self, module_id: str, version: str, *, actor: str, reason: str) -> None:
        """Removes a version from the catalogue; its history stays. Mutates.

        Raises VersionInUse if it is live, pinned, or the parent of a registered version.
        """
        with self.audit.writing() as connection:
            record = catalogue.find(connection, module_id, version)
            retention.forget(connection, record, actor=actor, reason=reason)

    # Reading

    def children(self, record: VersionRecord) -> tuple[VersionRecord, ...]:
        """The versions compiled directly after this one, in order of registration."""
        with self._database.reading() as connection:
            return catalogue.children(connection, record)

    def by_digest(self, digest: str) -> VersionRecord:
        """The version whose artifact has this digest. Raises VersionUnknown."""
        with self._database.reading() as connection:
            return catalogue.by_digest(connection, digest)

    def referenced_digests(self) -> frozenset[str]:
        """The artifacts that the catalogue knows; a store may drop all others."""
        with self._database.reading() as connection:
            return catalogue.digests(connection)

    def revoked_digests(self) -> frozenset[str]:
        """The artifacts that nothing may be answered from any more."""
        with self._database.reading() as connection:
            return catalogue.digests(connection, state="revoked")

    def was_revoked(self, module_id: str, version: str) -> bool:
        """Whether this version was revoked, even if it has been forgotten since: it stays so."""
        with self._database.reading() as connection:
            return history.was_revoked(connection, module_id, version)

    def pinned_digests(self) -> frozenset[str]:
        """The artifacts of pinned versions and of their ancestors, which a child is of no use without."""
        with self._database.reading() as connection:
            return retention.pinned_digests(connection)

    def history(self, module_id: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        """The last `limit` changes, of one module or of all, newest first; empty for a name never seen.

        Raises InvalidSetting for a limit below 1.
        """
        with self._database.reading() as connection:
            return history.newest(connection, module_id, limit)

    def gc_candidates(self, keep: int) -> list[VersionRecord]:
        """What can be forgotten, children before parents.

        Kept are: live and pinned versions, per module the `keep` newest registrations of the others, and
        every ancestor of a kept one, since a child needs the very version it was compiled on.
        Raises InvalidSetting for a negative `keep`.
        """
        with self._database.reading() as connection:
            return retention.forgettable(connection, keep)

    def check(self) -> None:
        """Whether it reads, at the schema that this code was written for. Raises as every method."""
        require_head(self._database)

    def counts(self) -> Counts:
        """How much of what there is, for figures."""
        with self._database.reading() as connection:
            return count(connection)

    def generation(self) -> int:
        """Grows with every change, by whichever process; 0 at first. Cheap: one index lookup."""
        with self._database.reading() as connection:
            return chain.generation(connection)

    def integrity(self, digest_of: integrity.DigestOf | None = None) -> list[Finding]:
        """What is wrong with the catalogue; empty if nothing. Damage is a finding and not an error.

        `digest_of` derives an artifact's digest from its manifest text; without it the manifests' digests
        are not checked. Raises RegistryBusy.
        """
        found: list[Finding] = []
        try:
            with self._database.reading() as connection:
                found.extend(integrity.findings(connection, digest_of))
            found.extend(self.audit.verify().findings)
        except RegistryUnreadable as error:
            found.append(Finding("database", self._database.place, error.message))
        return found


def _refuse(_event: AuditEvent) -> bool:
    return False
