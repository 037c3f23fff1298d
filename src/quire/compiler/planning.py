"""What a build has to do and why, decided before any model runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from quire import sources
from quire.artifact import FORMAT_VERSION, key_of, version_of
from quire.compiler.family import check_scope, in_build_order
from quire.errors import DocumentTooLong, ModelMismatch, ModuleUnknown, StoreError, VersionUnknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quire.compiler.layout import Layout
    from quire.core import ModuleSpec
    from quire.model import ModelSource
    from quire.registry import Registry, VersionRecord
    from quire.settings import Settings
    from quire.sources import Document
    from quire.store import Store

Action = Literal["current", "publish", "compile"]
ROOM_FOR_ANSWER = 64  # tokens that must stay free behind the longest chain


@dataclass(slots=True)
class ModulePlan:
    """One module of a build: its inputs, its key, and what has to happen.

    `action`: "current" (live as it should be), "publish" (compiled already, not live), "compile".
    """

    spec: ModuleSpec
    parent: ModulePlan | None
    documents: list[Document]
    layout: Layout
    inputs: dict[str, Any]
    key: str
    token_ids: list[int]
    record: VersionRecord | None = None  # the registered version of this key
    action: Action = "compile"
    reasons: list[str] = field(default_factory=list)

    @property
    def version(self) -> str:
        return version_of(self.key)

    @property
    def position_start(self) -> int:
        return self.parent.position_end if self.parent else 0

    @property
    def position_end(self) -> int:
        return self.position_start + len(self.token_ids)


def plan_build(
    settings: Settings,
    specs: Sequence[ModuleSpec],
    model: ModelSource,
    layout: Layout,
    registry: Registry,
    store: Store,
    *,
    only: Iterable[str] = (),
) -> list[ModulePlan]:
    """Plans for `specs` (or those named in `only`, with their ancestors), parents first.

    Raises:
        SourceError, ParentUnknown, ParentCycle, ScopeTooWide, DocumentTooLong, ModuleUnknown: bad input, nothing done.
    """
    plans: dict[str, ModulePlan] = {}
    for spec in in_build_order(specs, only):
        parent = plans[spec.parent] if spec.parent else None
        if parent:
            check_scope(spec, parent.spec)
        documents = sources.collect(settings.root, spec.sources, max_bytes=settings["build.max_source_bytes"])
        plan = plan_module(settings, spec, parent, documents, model, layout)
        decide(plan, registry, store)
        plans[spec.module_id] = plan
    return list(plans.values())


def plan_module(
    settings: Settings,
    spec: ModuleSpec,
    parent: ModulePlan | None,
    documents: list[Document],
    model: ModelSource,
    layout: Layout,
) -> ModulePlan:
    """Inputs, key and token ids of one module behind `parent`. What to do about it is for `decide`.

    Raises:
        DocumentTooLong, ModelMismatch.
    """
    text = sources.join(documents)
    inputs: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "module_id": spec.module_id,
        "title": spec.title,
        "tenant_id": spec.tenant,
        "acl": str(spec.scope),
        "sources": [{"path": d.path, "media": d.media, "text_digest": d.text_digest} for d in documents],
        "layout": layout.definition(),
        "parent": parent.key if parent else None,
        "model": model.facts.fingerprint,
        "tokenizer": model.facts.tokenizer_fingerprint,
        "dtype": model.facts.geometry.dtype,
        "codec": "plain",
        "prefill_chunk": settings["build.prefill_chunk"],
        "shard_bytes": settings["build.shard_bytes"],
    }
    token_ids = layout.static_ids(
        model.tokenizer, is_root=parent is None, content=text, title=spec.title, module=spec.module_id
    )
    plan = ModulePlan(spec, parent, documents, layout, inputs, key_of(inputs), token_ids)
    _check_length(plan, model.facts.max_positions)
    if (largest := max(token_ids, default=0)) >= model.facts.vocabulary:
        raise ModelMismatch(
            f"the tokenizer gives token {largest}, the model has {model.facts.vocabulary} tokens",
            hint="the model directory holds the tokenizer of another model",
        )
    return plan


def _check_length(plan: ModulePlan, limit: int) -> None:
    room = limit - ROOM_FOR_ANSWER
    if plan.position_end > room:
        ancestors = f" after {plan.position_start} of its ancestors" if plan.parent else ""
        raise DocumentTooLong(
            f"module {plan.spec.module_id} has {len(plan.token_ids)} tokens{ancestors}; the model's context is "
            f"{limit}, of which {ROOM_FOR_ANSWER} stay free for question and answer",
            hint="compile it with --split headings, give it fewer sources, or use a model with a longer context",
        )


def decide(plan: ModulePlan, registry: Registry, store: Store) -> None:
    """Set the plan's record, action and reasons by what is registered and stored. Mutates the plan."""
    try:
        plan.record = registry.get(plan.spec.module_id, plan.version)
    except (ModuleUnknown, VersionUnknown):
        plan.reasons = _differences(plan, registry)
        return
    record, parent = plan.record, plan.parent
    if parent and (parent.record is None or parent.action == "compile" or _parent_moved(record, parent.record)):
        plan.reasons = [f"parent {parent.spec.module_id} is compiled again"]
        return
    try:
        store.locate(record.digest)
    except StoreError:
        plan.reasons = ["its artifact is missing"]
        return
    plan.action = "current" if record.state == "live" else "publish"
    if plan.action == "publish":
        plan.reasons = [f"compiled before, now {record.state}"]


def _parent_moved(record: VersionRecord, parent: VersionRecord) -> bool:
    return record.parent is None or record.parent.digest != parent.digest


def _differences(plan: ModulePlan, registry: Registry) -> list[str]:
    """Why no registered version has this key: compared with the newest one of the module."""
    try:
        newest = registry.versions(plan.spec.module_id)
    except ModuleUnknown:
        newest = []
    if not newest:
        return ["new module"]
    live = next((r for r in newest if r.state == "live"), newest[0])
    old, new = live.inputs, plan.inputs
    reasons = _source_changes(old.get("sources", []), new["sources"])
    if old.get("parent") != new["parent"]:
        reasons.append(f"parent {plan.spec.parent} changed" if plan.spec.parent else "it has no parent any more")
    names = {
        "title": "title",
        "tenant_id": "tenant",
        "acl": "acl",
        "layout": "layout",
        "model": "model",
        "tokenizer": "tokenizer",
        "dtype": "dtype",
        "codec": "codec",
        "prefill_chunk": "prefill chunk",
        "shard_bytes": "shard size",
        "format_version": "artifact format",
    }
    return reasons + [f"{name} changed" for key, name in names.items() if old.get(key) != new[key]]


def _source_changes(old: list[dict[str, str]], new: list[dict[str, str]]) -> list[str]:
    before, after = ({s["path"]: s["text_digest"] for s in entries} for entries in (old, new))
    changes = [f"source changed: {p}" for p in after if p in before and before[p] != after[p]]
    changes += [f"source added: {p}" for p in after if p not in before]
    changes += [f"source removed: {p}" for p in before if p not in after]
    if not changes and old != new:
        changes.append("sources reordered")
    return changes
