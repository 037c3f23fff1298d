"""Live versions for another model than the one that is loaded: a server goes on with those it had until a restart.

A build for another model makes new versions live, which no server can answer from that has still the old model. Until
somebody restarts it, it answers from the version that was live before, as from one that is stale by the trigger
`model`: with a warning, or not, as the module's `stale` says. What was revoked, has expired, was forgotten, or is
hidden from who asks, by the acl of either version, does not answer; nor does a module that was retired meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from quire.errors import ModelMismatch, QuireError
from quire.registry import Reason, Staleness

if TYPE_CHECKING:
    from quire.access import Policy, Principal
    from quire.core import WhenStale
    from quire.model import ModelFacts
    from quire.registry import MadeFor, Registry, VersionRecord

    Chain = tuple[VersionRecord, ...]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Misfits:
    """Modules whose live version is for another model: those `continued` by an older version, and those `refused`."""

    continued: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.continued or self.refused)


class Fitting:
    """What of a registry fits a model. Thread-safe."""

    def __init__(
        self, registry: Registry, model: ModelFacts, policy: Policy, when_stale: Callable[[str], WhenStale]
    ) -> None:
        """`when_stale`: what a module does while it is stale, by its name. Raises RegistryError."""
        self._registry = registry
        self._model = model
        self._policy = policy
        self._when_stale = when_stale
        self._had: Mapping[str, str] = {}  # the version of each module that was live last, and fits
        self._since = datetime.now(UTC)
        self._misfits = Misfits()
        self._look()

    def look(self, generation: int) -> None:
        """The registry has changed: remember what is live and fits, and say so once if something does not."""
        try:
            self._look()
        except QuireError as error:  # what was remembered goes on
            log.warning("generation %d: live versions cannot be compared with the model: %s", generation, error.message)

    def misfits(self) -> Misfits:
        """As of the last look."""
        return self._misfits

    def check(self) -> None:
        """Raises ModelMismatch where a live module cannot be answered from at all until a restart."""
        if refused := sorted(self._misfits.refused):
            raise ModelMismatch(
                f"restart needed: live versions of {', '.join(refused)} are for another model than this server runs, "
                f"{self._runs}",
                hint="restart it; or build for the model it runs",
            )

    def chain(self, live: Chain, principal: Principal) -> Chain:
        """`live`, or what answers in its place; `live` too where nothing may: the pool refuses it and says why."""
        leaf = live[-1]
        version = None if self._fits(leaf) else self._had.get(leaf.module_id)
        if version is None:
            return live
        try:
            older = self._registry.chain(self._registry.get(leaf.module_id, version))
        except QuireError:
            return live  # forgotten, or an ancestor of it
        if older[-1].state != "retired" or any(link.state == "revoked" for link in older):
            return live
        if not all(self._policy.decide(principal, "read", scope) for link in older for scope in link.scopes):
            return live
        return (*older[:-1], self._marked(older[-1], leaf))

    def _marked(self, older: VersionRecord, live: VersionRecord) -> VersionRecord:
        """As stale: the new version is there, and may say something else."""
        known = older.stale.reasons if older.stale else ()
        reason = Reason("model", "the model changed", "model", live.model_fingerprint, older.model_fingerprint)
        since = older.stale.since if older.stale else self._since
        return replace(older, stale=Staleness(since, self._when_stale(older.module_id), (*known, reason)))

    def _look(self) -> None:
        live = {made.module_id: made for made in self._registry.made_for("live")}
        fitting = {name: made.version for name, made in live.items() if self._fits(made)}
        others = live.keys() - fitting.keys()
        kept = {(made.module_id, made.version) for made in self._registry.made_for("retired")} if others else set()
        had = {name: version for name, version in self._had.items() if name in others and (name, version) in kept}
        self._had = had | fitting
        misfits = Misfits(frozenset(had), frozenset(others - had.keys()))
        if misfits == self._misfits:
            return
        self._misfits, self._since = misfits, datetime.now(UTC)
        if misfits:
            log.warning(
                "restart needed: live versions of %d modules are for the model %s, this server runs %s; %d of them are "
                "answered from the version before, the others refused",
                len(others),
                " and ".join(sorted({live[name].model_fingerprint for name in others})),
                self._runs,
                len(misfits.continued),
            )
        else:
            log.info("all live versions are for the model that this server runs")

    def _fits(self, record: VersionRecord | MadeFor) -> bool:
        fits = record.model_fingerprint == self._model.fingerprint
        return fits and record.tokenizer_fingerprint == self._model.tokenizer_fingerprint

    @property
    def _runs(self) -> str:
        return f"{self._model.name} ({self._model.fingerprint})"
