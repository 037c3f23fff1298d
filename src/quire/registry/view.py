"""Reading the catalogue, within a reach."""

from __future__ import annotations

from quire.access import EVERYTHING, Reach
from quire.core import State
from quire.registry import catalogue
from quire.registry.database import Database
from quire.registry.records import MadeFor, ModuleSummary, VersionRecord


class View:
    """What the catalogue looks like to somebody: modules out of reach do not exist in it. Thread-safe.

    Each method is one transaction. Those that take a version accept any unambiguous prefix of it, and raise
    ModuleUnknown or VersionUnknown otherwise. Every method raises RegistryBusy when the database stays locked,
    RegistryUnreadable when it is damaged.
    """

    def __init__(self, database: Database, reach: Reach = EVERYTHING) -> None:
        self._database = database
        self._reach = reach

    def live(self, module_id: str) -> VersionRecord:
        """The live version. Raises ModuleUnknown, NoLiveVersion."""
        with self._database.reading() as connection:
            return catalogue.live(connection, module_id, self._reach)

    def all_live(self) -> list[VersionRecord]:
        """The live versions of all modules, by name."""
        with self._database.reading() as connection:
            return catalogue.all_live(connection, self._reach)

    def made_for(self, state: State) -> list[MadeFor]:
        """For which model each version in `state` is, whatever the reach: for who looks after all modules alike."""
        with self._database.reading() as connection:
            return catalogue.made_for(connection, state)

    def get(self, module_id: str, version: str) -> VersionRecord:
        """The version that is, or alone begins with, `version`."""
        with self._database.reading() as connection:
            return catalogue.find(connection, module_id, version, self._reach)

    def resolve(self, name: str) -> VersionRecord:
        """`billing`: the live version; `billing@1f3c`: that one, in whatever state. Raises as both."""
        module_id, at, version = name.partition("@")
        return self.get(module_id, version) if at else self.live(module_id)

    def modules(self) -> list[ModuleSummary]:
        """Every module, by name."""
        with self._database.reading() as connection:
            return catalogue.summaries(connection, self._reach)

    def versions(self, module_id: str | None = None) -> list[VersionRecord]:
        """The versions of one module or of all, newest registration first. Raises ModuleUnknown."""
        with self._database.reading() as connection:
            return catalogue.all_versions(connection, module_id, self._reach)

    def chain(self, record: VersionRecord) -> tuple[VersionRecord, ...]:
        """`record` after its ancestors, root first, by the digests it was compiled on. Raises ChainBroken.

        The ancestors are given whatever their scopes: who answers from them asks the policy about each.
        """
        with self._database.reading() as connection:
            return catalogue.chain(connection, record)
