"""Every declared module compared with its live version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quire import sources
from quire.artifact import key_of
from quire.errors import SourceError
from quire.registry import Reason
from quire.staleness.differences import compare_inputs
from quire.staleness.family import in_build_order
from quire.staleness.inputs import inputs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from quire.core import ModuleSpec
    from quire.registry import Registry, VersionRecord
    from quire.settings import Settings
    from quire.sources import Document
    from quire.staleness.identity import Identity


@dataclass(frozen=True, slots=True)
class Assessment:
    """One declared module. `live`: its live version, None if there is none. `reasons`: why that is stale; empty: it is
    what a build would make. `problem`: why nobody can tell, as its sources, or its ancestors', do not read. `expired`:
    its time is over, or that of an ancestor."""

    spec: ModuleSpec
    key: str | None
    live: VersionRecord | None
    reasons: tuple[Reason, ...] = ()
    problem: str = ""
    expired: bool = False

    @property
    def fresh(self) -> bool:
        return self.live is not None and not self.reasons and not self.problem and not self.expired


def assess(
    settings: Settings,
    registry: Registry,
    identity: Identity,
    *,
    read: Mapping[str, Sequence[Document]] | None = None,
) -> list[Assessment]:
    """All declared modules, parents first. Reads sources; mutates nothing.

    `read`: documents of modules, by name, that the caller has read already.

    Raises:
        ParentUnknown, ParentCycle: what is declared makes no sense.
    """
    serving = {record.module_id: record for record in registry.all_live()}
    found: dict[str, Assessment] = {}
    for spec in in_build_order(settings.modules):
        parent = found[spec.parent] if spec.parent else None
        live = serving.get(spec.module_id)
        if parent and parent.key is None:
            found[spec.module_id] = Assessment(spec, None, live, problem=f"its parent {spec.parent}: {parent.problem}")
            continue
        try:
            documents = (read or {}).get(spec.module_id) or _read(settings, spec)
        except SourceError as error:
            found[spec.module_id] = Assessment(spec, None, live, problem=error.message)
            continue
        inputs = inputs_of(settings, spec, parent.key if parent else None, documents, identity)
        key = key_of(inputs)
        over = bool(live and live.expired) or bool(parent and parent.expired)
        found[spec.module_id] = Assessment(spec, key, live, _reasons(live, key, inputs, parent), expired=over)
    return list(found.values())


def dragged_along(assessments: Iterable[Assessment]) -> dict[str, list[str]]:
    """By the name of each module: all that stand behind it, and so are built anew when it is."""
    parents = {one.spec.module_id: one.spec.parent for one in assessments}
    below: dict[str, list[str]] = {name: [] for name in parents}
    for name, ancestor in parents.items():
        while ancestor:
            below[ancestor].append(name)
            ancestor = parents[ancestor]
    return below


def _reasons(
    live: VersionRecord | None, key: str, inputs: dict[str, object], parent: Assessment | None
) -> tuple[Reason, ...]:
    if live is None:
        return ()
    if live.key != key:
        return compare_inputs(live.inputs, inputs, parent.spec.module_id if parent else None)
    if parent and parent.live and live.parent and live.parent.digest != parent.live.digest and not parent.reasons:
        text = f"parent {parent.spec.module_id} was compiled again"
        return (Reason("parent", text, parent.spec.module_id, parent.live.digest, live.parent.digest),)
    return ()


def _read(settings: Settings, spec: ModuleSpec) -> Sequence[Document]:
    return sources.collect(settings.root, spec.sources, max_bytes=settings["build.max_source_bytes"])
