"""The registry as other packages see it: each method is one transaction."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from quire.errors import RegistryUnreadable
from quire.registry import catalogue, history, integrity, lifecycle, registration, retention, rollback
from quire.registry.database import Database
from quire.registry.records import Finding, HistoryEntry, ModuleSummary, VersionRecord
from quire.registry.revisions import bring_to_head


class Registry:
    """The catalogue of modules. Threads may share one; processes may each open the same database.

    Methods that take a version accept any unambiguous prefix of it, and raise ModuleUnknown or
    VersionUnknown otherwise. Those that mutate want to know who (`actor`) and why (`reason`), neither empty.
    Every method raises RegistryBusy when the database stays locked, RegistryUnreadable when it is damaged;
    one that mutates also RegistryUnwritable, and then has changed nothing.

    Errors name modules of every scope: who answers a principal filters by access first.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str | Path, *, busy_seconds: float = 10.0) -> Self:
        """Opens or creates the registry at a path or URL (`sqlite:///path`, `postgresql://...`).

        Mutates: creates the file and its folder, and brings the schema to the newest revision.
        `busy_seconds`: how long any call waits for another writer. Raises InvalidSetting, RegistryUnwritable,
        RegistryBusy, RegistryUnreadable (damaged, of a newer Quire, of another program).
        """
        database = Database(url, busy_seconds=busy_seconds)
        try:
            database.prepare()
            bring_to_head(database)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def close(self) -> None:
        """Lets go of the database. May be called twice; other calls then raise RegistryUnreadable."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Changing

    def register(self, record: VersionRecord, *, actor: str, reason: str) -> VersionRecord:
        """Enters a compiled version as candidate and returns it as registered. Mutates.

        A version that is registered already keeps its state and its pin. With the same digest nothing
        happens, except that a new `expires_at` is taken over ("renew"). With another digest, as after a
        repair or on a machine with other numerics, the record takes the place of the old one ("replace");
        children compiled on the old bytes then raise ChainBroken until they are compiled again.
        Raises RecordInvalid, ChainBroken if the parent is not registered with the digest that is named.
        """
        with self._database.writing() as connection:
            return registration.register(connection, record, actor=actor, reason=reason)

    def publish(self, module_id: str, version: str, *, actor: str, reason: str) -> VersionRecord:
        """Makes a candidate or retired version live and retires the one that was. Mutates.

        Raises IllegalTransition, ChainBroken; see `lifecycle` for the table and the rule on ancestors.
        """
        return self.publish_many([(module_id, version)], actor=actor, reason=reason)[0]

    def publish_many(self, wanted: Iterable[tuple[str, str]], *, actor: str, reason: str) -> tuple[VersionRecord, ...]:
        """Publishes (module_id, version) pairs, all or none, so that readers see a build as a whole. Mutates.

        Returns the live records in the order given. Raises as `publish`, and IllegalTransition for two
        versions of one module.
        """
        with self._database.writing() as connection:
            records = [catalogue.find(connection, module_id, version) for module_id, version in wanted]
            return lifecycle.make_live(connection, records, action="publish", actor=actor, reason=reason)

    def retire(self, module_id: str, version: str, *, actor: str, reason: str) -> VersionRecord:
        """Takes a live version out of service; none replaces it. Mutates. Raises IllegalTransition."""
        with self._database.writing() as connection:
            record = catalogue.find(connection, module_id, version)
            return lifecycle.move(connection, record, "retired", action="retire", actor=actor, reason=reason)

    def revoke(self, module_id: str, version: str, *, actor: str, reason: str) -> tuple[VersionRecord, ...]:
        """Forbids a version, and all that was compiled after it, for good. Mutates.

        Returns the versions that this call revoked, parents first; empty if it was revoked already.
        """
        with self._database.writing() as connection:
            record = catalogue.find(connection, module_id, version)
            return lifecycle.revoke(connection, record, actor=actor, reason=reason)

    def rollback(
        self, module_id: str, *, to: str | None = None, actor: str, reason: str
    ) -> tuple[VersionRecord | None, VersionRecord]:
        """Makes the version live again that was live before, or `to`, which must have been live. Mutates.

        Returns (what was live, None if nothing was; what is live now). Repeated, it goes further back.
        Raises NothingToRollBack, ModuleUnknown, VersionUnknown, IllegalTransition, ChainBroken.
        """
        with self._database.writing() as connection:
            return rollback.roll_back(connection, module_id, to, actor=actor, reason=reason)

    def pin(self, module_id: str, version: str, *, actor: str, reason: str) -> VersionRecord:
        """Protects a version from garbage collection. Mutates."""
        with self._database.writing() as connection:
            record = catalogue.find(connection, module_id, version)
            return retention.set_pin(connection, record, True, actor=actor, reason=reason)

    def unpin(self, module_id: str, version: str, *, actor: str, reason: str) -> VersionRecord:
        """Takes the protection away. Mutates."""
        with self._database.writing() as connection:
            record = catalogue.find(connection, module_id, version)
            return retention.set_pin(connection, record, False, actor=actor, reason=reason)

    def forget(self, module_id: str, version: str, *, actor: str, reason: str) -> None:
        """Removes a version from the catalogue; its history stays. Mutates.

        Raises VersionInUse if it is live, pinned, or the parent of a registered version.
        """
        with self._database.writing() as connection:
            record = catalogue.find(connection, module_id, version)
            retention.forget(connection, record, actor=actor, reason=reason)

    # Reading

    def live(self, module_id: str) -> VersionRecord:
        """The live version. Raises ModuleUnknown, NoLiveVersion."""
        with self._database.reading() as connection:
            return catalogue.live(connection, module_id)

    def get(self, module_id: str, version: str) -> VersionRecord:
        """The version that is, or alone begins with, `version`."""
        with self._database.reading() as connection:
            return catalogue.find(connection, module_id, version)

    def resolve(self, name: str) -> VersionRecord:
        """`billing`: the live version; `billing@1f3c`: that one, in whatever state. Raises as both."""
        module_id, at, version = name.partition("@")
        return self.get(module_id, version) if at else self.live(module_id)

    def modules(self) -> list[ModuleSummary]:
        """Every module, by name."""
        with self._database.reading() as connection:
            return catalogue.summaries(connection)

    def versions(self, module_id: str | None = None) -> list[VersionRecord]:
        """The versions of one module or of all, newest registration first. Raises ModuleUnknown."""
        with self._database.reading() as connection:
            return catalogue.all_versions(connection, module_id)

    def chain(self, record: VersionRecord) -> tuple[VersionRecord, ...]:
        """`record` after its ancestors, root first, by the digests it was compiled on. Raises ChainBroken."""
        with self._database.reading() as connection:
            return catalogue.chain(connection, record)

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

    def generation(self) -> int:
        """Grows with every change, by whichever process; 0 at first. Cheap: one index lookup."""
        with self._database.reading() as connection:
            return history.generation(connection)

    def integrity(self, digest_of: integrity.DigestOf | None = None) -> list[Finding]:
        """What is wrong with the catalogue; empty if nothing. Damage is a finding and not an error.

        `digest_of` derives an artifact's digest from its manifest text; without it the manifests' digests
        are not checked. Raises RegistryBusy.
        """
        found: list[Finding] = []
        try:
            with self._database.reading() as connection:
                found.extend(integrity.findings(connection, digest_of))
        except RegistryUnreadable as error:
            found.append(Finding("database", self._database.place, error.message))
        return found
