"""A new manifest for KV that is there already: where a version differs from an older one in nothing that KV depends on.

Readers, title, names of sources and what a layout says behind the static part are inputs of a key, and none of the KV.
A version that differs from a registered one in those alone gets its files, without a prefill and without a copy.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from quire.artifact import LayoutIdentity, ParentIdentity, SourceEntry, context_checksum, open_artifact, reissue
from quire.errors import ChainBroken, ModuleUnknown, StoreError, VersionUnknown

if TYPE_CHECKING:
    from quire.compiler.planning import ModulePlan
    from quire.registry import Registry, VersionRecord
    from quire.store import Store

# Inputs that the bytes of the KV, or of its files, depend on beside the tokens and the ancestors' KV.
DECISIVE = ("model", "tokenizer", "dtype", "codec", "prefill_chunk", "shard_bytes", "format_version")
Files = list[dict[str, Any]]


def find_donor(plan: ModulePlan, registry: Registry, store: Store) -> VersionRecord | None:
    """A version of the same module, newest first, with the KV that compiling `plan` would give; None if there is none.

    Same tokens at the same places after ancestors with the same KV, computed by the same model in the same steps. Never
    a revoked version: why it was revoked is not known here.
    """
    ancestors = kv_of_ancestors(plan)
    if ancestors is None:
        return None
    try:
        present = registry.versions(plan.spec.module_id)
    except ModuleUnknown:
        return None
    context = context_of(plan)
    for record in present:
        if record.state == "revoked" or any(record.inputs.get(name) != plan.inputs[name] for name in DECISIVE):
            continue
        if json.loads(record.manifest).get("context_checksum") != context:
            continue
        try:
            chain = registry.chain(record)
            there = store.has(record.digest)
        except (ChainBroken, VersionUnknown, StoreError):
            continue
        if there and [files_of(link) for link in chain[:-1]] == ancestors:
            return record
    return None


def kv_of_ancestors(plan: ModulePlan) -> list[Files] | None:
    """The files of the ancestors' KV, root first; None where one has to be computed."""
    found: list[Files] = []
    ancestor = plan.parent
    while ancestor is not None:
        holder = ancestor.donor or ancestor.record
        if holder is None or ancestor.action == "compile":
            return None
        found.insert(0, files_of(holder))
        ancestor = ancestor.parent
    return found


def context_of(plan: ModulePlan) -> str:
    """The context checksum that the plan's artifact will have."""
    lineage = [plan]
    while lineage[0].parent is not None:
        lineage.insert(0, lineage[0].parent)
    context: str | None = None
    for link in lineage:
        context = context_checksum(context, link.token_ids)
    return str(context)


def files_of(record: VersionRecord) -> Files:
    """Names, sizes and digests of the files of an artifact."""
    files: Files = json.loads(record.manifest)["files"]
    return files


def reissue_module(plan: ModulePlan, registry: Registry, store: Store, *, actor: str) -> VersionRecord:
    """Put `plan`'s manifest beside the donor's files into `store`, and enter it into `registry` as candidate.

    Every byte is compared with its digest before.

    Raises:
        ArtifactError: the donor's bytes are damaged. StoreError. Nothing is left behind then.
    """
    from quire.compiler.compiling import record_of  # with PyTorch: who looks for a donor does without

    donor = plan.donor
    if donor is None:
        raise VersionUnknown(f"{plan.spec.module_id} has no version to take its KV from", hint="compile it")
    above = plan.parent.record if plan.parent else None
    staged = store.stage()
    try:
        with store.lease(donor.digest), open_artifact(store.locate(donor.digest), expect_digest=donor.digest) as held:
            held.verify()
            manifest = reissue(
                held,
                staged,
                key=plan.key,
                title=plan.spec.title,
                tenant_id=plan.spec.tenant,
                scope=plan.spec.scope,
                layout=LayoutIdentity(plan.layout.id, plan.layout.version, plan.layout.checksum),
                parent=ParentIdentity(above.module_id, above.version, above.key, above.digest) if above else None,
                sources=[SourceEntry(d.path, d.media, d.text_digest) for d in plan.documents],
            )
        with open_artifact(staged, expect_digest=manifest.digest) as written:
            written.verify()
        store.commit(staged, manifest.digest)
    except BaseException:
        store.discard(staged)
        raise
    reason = f"{'; '.join(map(str, plan.reasons))}; KV of {donor.version}"
    return registry.register(record_of(plan, manifest, donor.bytes), plan.golden, actor=actor, reason=reason)
