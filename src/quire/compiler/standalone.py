"""Planning without a project: one document as one module, or as several cut at its headings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from quire import sources
from quire.artifact import digest_bytes, open_artifact
from quire.compiler.layout import Layout
from quire.compiler.planning import ROOM_FOR_ANSWER, ModulePlan, decide, identity_of, plan_module
from quire.core import ModuleSpec
from quire.errors import DocumentTooLong, InvalidSetting, ModelMismatch, ModuleUnknown
from quire.settings import check_title
from quire.sources import Document
from quire.staleness import check_scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.golden import Suite
    from quire.model import ModelSource
    from quire.registry import Registry, VersionRecord
    from quire.settings import Settings
    from quire.store import Store


def plan_standalone(
    settings: Settings,
    spec: ModuleSpec,
    model: ModelSource,
    layout: Layout,
    registry: Registry,
    store: Store,
    *,
    split: bool = False,
) -> list[ModulePlan]:
    """Plans for `spec`, whose `parent` is the name of a registered module (``name`` or ``name@version``).

    With `split`, a document that does not fit the model's context becomes several modules of one level, each named
    ``<name>-<heading>``; one that fits stays one.

    Each is to pass the golden tests that a registered version of its name declares.

    Raises:
        InvalidSetting, SourceError, DocumentTooLong, ModuleUnknown, VersionUnknown, NoLiveVersion, ChainBroken,
        ModelMismatch, ScopeTooWide, ArtifactError, StoreError.
    """
    check_title(spec.title, spec.module_id)
    parent = registered(registry.resolve(spec.parent), model, registry, store) if spec.parent else None
    if parent:
        check_scope(spec, parent.spec)
    documents = sources.collect(settings.root, spec.sources, max_bytes=settings["build.max_source_bytes"])
    identity = identity_of(model, layout)
    try:
        plans = [plan_module(settings, spec, parent, documents, identity, model.tokenizer, layout)]
    except DocumentTooLong:
        if not split:
            raise
        pieces = _cut(spec, parent, documents, model, layout)
        of = (identity, model.tokenizer, layout)
        plans = [plan_module(settings, part, parent, [section], *of) for part, section in pieces]
    for plan in plans:
        present = _present(plan.spec.module_id, registry)
        _check_owner(plan.spec, present)
        plan.golden = _inherited(present, registry)
        decide(plan, registry, store)
    return plans


def _present(module_id: str, registry: Registry) -> list[VersionRecord]:
    """What is registered under the name: the live version first, then the newest."""
    try:
        return sorted(registry.versions(module_id), key=lambda record: record.state != "live")
    except ModuleUnknown:
        return []


def _check_owner(spec: ModuleSpec, present: Sequence[VersionRecord]) -> None:
    """Raises InvalidSetting: the name is another tenant's."""
    if present and present[0].tenant_id != spec.tenant:
        raise InvalidSetting(
            f"{spec.module_id} is registered there for the tenant {present[0].tenant_id!r}, not for {spec.tenant!r}",
            hint="choose another --name, or build it in its own project",
        )


def _inherited(present: Sequence[VersionRecord], registry: Registry) -> Suite | None:
    """The golden tests that the module has by now: a version that comes without a project must pass them too."""
    return next((suite for record in present if (suite := registry.golden.declared(record))), None)


def registered(record: VersionRecord, model: ModelSource, registry: Registry, store: Store) -> ModulePlan:
    """A registered version as the plan it once had, to compile behind it.

    Raises:
        ModelMismatch: it was compiled for another model.
        ChainBroken, ArtifactError, StoreError.
    """
    if record.model_fingerprint != model.facts.fingerprint:
        raise ModelMismatch(
            f"{record.ref} was compiled for the model {record.model_fingerprint}, this one is "
            f"{model.facts.fingerprint}",
            hint="compile with the model of the parent, or compile the parent with this model",
        )
    plan: ModulePlan | None = None
    for link in registry.chain(record):
        with (
            store.lease(link.digest) as lease,
            open_artifact(lease.directory, expect_digest=link.digest) as artifact,
        ):
            token_ids = artifact.token_ids
        plan = ModulePlan(
            spec=ModuleSpec(link.module_id, (), None, link.title, link.tenant_id, link.scope),
            parent=plan,
            documents=[],
            layout=Layout.parse(link.inputs["layout"], str(link.ref)),
            inputs=link.inputs,
            key=link.key,
            token_ids=token_ids,
            record=link,
            action="current",
        )
    if plan is None:
        raise ModelMismatch(f"{record.ref} has an empty chain")
    return plan


def _cut(
    spec: ModuleSpec, parent: ModulePlan | None, documents: list[Document], model: ModelSource, layout: Layout
) -> list[tuple[ModuleSpec, Document]]:
    def count(text: str) -> int:
        return len(layout.static_ids(model.tokenizer, is_root=parent is None, content=text, title="", module=""))

    names = len(model.tokenizer.words("n" * 400))  # a section's title and name are not known before it is cut
    limit = model.facts.max_positions - ROOM_FOR_ANSWER - (parent.position_end if parent else 0) - names
    cut: list[tuple[ModuleSpec, Document]] = []
    for section in sources.split_headings(sources.join(documents), count, limit):
        digest = digest_bytes(section.text.encode())
        path = f"{documents[0].path}#{section.slug}"
        part = replace(spec, module_id=f"{spec.module_id}-{section.slug}", title=section.title)
        cut.append((part, Document(path, section.text, section.title, {}, "markdown", digest, digest)))
    return cut
