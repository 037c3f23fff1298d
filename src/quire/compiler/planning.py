"""What a build has to do and why, decided before any model runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from quire import sources
from quire.artifact import key_of, version_of
from quire.compiler.reissuing import find_donor
from quire.compiler.renewing import due
from quire.errors import DocumentTooLong, ModelMismatch, ModuleUnknown, VersionUnknown
from quire.golden import suite_of
from quire.registry import Reason
from quire.settings import check_rules
from quire.staleness import Identity, check_scope, compare_inputs, in_build_order, inputs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quire.compiler.layout import Layout
    from quire.core import ModuleSpec
    from quire.golden import Suite
    from quire.model import ModelSource
    from quire.registry import Registry, VersionRecord
    from quire.settings import Settings
    from quire.sources import Document
    from quire.store import Store
    from quire.tokenizer import TextTokenizer

Action = Literal["current", "publish", "withhold", "renew", "reissue", "compile"]
ROOM_FOR_ANSWER = 64  # tokens that must stay free behind the longest chain


@dataclass(slots=True)
class ModulePlan:
    """One module of a build: its inputs, its key, and what has to happen.

    `action`: "current" (live as it should be), "publish" (compiled already, not live), "renew" (live, and its time is
    over), "reissue" (the KV is there, the manifest is not), "compile", "withhold" (it was revoked, or what
    it would stand on was: nothing is done, and `record` may be None). `donor`: whose KV is reissued.
    """

    spec: ModuleSpec
    parent: ModulePlan | None
    documents: list[Document]
    layout: Layout
    inputs: dict[str, Any]
    key: str
    token_ids: list[int]
    record: VersionRecord | None = None  # the registered version of this key
    donor: VersionRecord | None = None
    action: Action = "compile"
    reasons: list[Reason] = field(default_factory=list)
    golden: Suite | None = None  # what a version must pass before it goes live

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
    identity: Identity,
    tokenizer: TextTokenizer,
    layout: Layout,
    registry: Registry,
    store: Store,
    *,
    only: Iterable[str] = (),
) -> list[ModulePlan]:
    """Plans for `specs` (or those named in `only`, with their ancestors), parents first.

    Raises:
        SourceError, ParentUnknown, ParentCycle, ScopeTooWide, DocumentTooLong, ModuleUnknown, InvalidSetting (golden
            tests, patterns of routes): bad input, nothing done.
    """
    for spec in specs:
        check_rules(spec)
    plans: dict[str, ModulePlan] = {}
    for spec in in_build_order(specs, only):
        parent = plans[spec.parent] if spec.parent else None
        if parent:
            check_scope(spec, parent.spec)
        documents = sources.collect(settings.root, spec.sources, max_bytes=settings["build.max_source_bytes"])
        plan = plan_module(settings, spec, parent, documents, identity, tokenizer, layout)
        plan.golden = suite_of(settings.root, spec)
        decide(plan, registry, store)
        plans[spec.module_id] = plan
    return list(plans.values())


def plan_module(
    settings: Settings,
    spec: ModuleSpec,
    parent: ModulePlan | None,
    documents: list[Document],
    identity: Identity,
    tokenizer: TextTokenizer,
    layout: Layout,
) -> ModulePlan:
    """Inputs, key and token ids of one module behind `parent`. What to do about it is for `decide`.

    Raises:
        DocumentTooLong, ModelMismatch.
    """
    text = sources.join(documents)
    inputs = inputs_of(settings, spec, parent.key if parent else None, documents, identity)
    token_ids = layout.static_ids(
        tokenizer, is_root=parent is None, content=text, title=spec.title, module=spec.module_id
    )
    plan = ModulePlan(spec, parent, documents, layout, inputs, key_of(inputs), token_ids)
    _check_length(plan, identity.max_positions)
    if (largest := max(token_ids, default=0)) >= identity.vocabulary:
        raise ModelMismatch(
            f"the tokenizer gives token {largest}, the model has {identity.vocabulary} tokens",
            hint="the model directory holds the tokenizer of another model",
        )
    return plan


def identity_of(model: ModelSource, layout: Layout) -> Identity:
    """What keys depend on beside a module's own sources."""
    facts = model.facts
    return Identity(
        facts.fingerprint,
        facts.tokenizer_fingerprint,
        facts.geometry.dtype,
        layout.definition(),
        facts.geometry.bytes_per_token,
        facts.max_positions,
        facts.vocabulary,
    )


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
        plan.record = None
    if forbidden := _forbidden(plan, registry):
        plan.action, plan.reasons = "withhold", [forbidden]
        return
    if plan.record is None:
        plan.reasons = _differences(plan, registry)
        plan.donor = find_donor(plan, registry, store)
        plan.action = "reissue" if plan.donor else "compile"
        return
    record, parent = plan.record, plan.parent
    if parent and (parent.record is None or parent.action == "compile" or _parent_moved(record, parent.record)):
        plan.reasons = [Reason("parent", f"parent {parent.spec.module_id} is compiled again", parent.spec.module_id)]
        return
    if not store.has(record.digest):
        plan.reasons = [Reason("missing", "its artifact is missing", record.digest)]
        return
    if record.state == "live" and (why := due(record, plan.spec)):
        plan.action, plan.reasons = "renew", [Reason("expired", why)]
        return
    if record.state == "live":
        plan.action = "current"
        return
    plan.action = "publish"
    plan.reasons = [Reason("state", f"compiled before, now {record.state}", "", "live", record.state)]


def _forbidden(plan: ModulePlan, registry: Registry) -> Reason | None:
    """Why nothing may be made of these inputs, whatever is on the disk."""
    name, parent = plan.spec.module_id, plan.parent
    if plan.record.state == "revoked" if plan.record else registry.was_revoked(name, plan.version):
        return Reason("state", f"{name}@{plan.version} is revoked: change its sources or layout", "", "live", "revoked")
    if parent and parent.action == "withhold":
        return Reason("parent", f"its parent {parent.spec.module_id} is left out", parent.spec.module_id)
    return None


def _parent_moved(record: VersionRecord, parent: VersionRecord) -> bool:
    return record.parent is None or record.parent.digest != parent.digest


def _differences(plan: ModulePlan, registry: Registry) -> list[Reason]:
    """Why no registered version has this key: compared with the live one of the module, or else its newest."""
    try:
        newest = registry.versions(plan.spec.module_id)
    except ModuleUnknown:
        newest = []
    if not newest:
        return [Reason("new", "new module")]
    live = next((r for r in newest if r.state == "live"), newest[0])
    return list(compare_inputs(live.inputs, plan.inputs, plan.spec.parent))
