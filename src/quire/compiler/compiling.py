"""One module: prefill behind its parents' KV straight into the artifact's files, check, commit, register."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version as library_version
from typing import TYPE_CHECKING

import torch

from quire.artifact import (
    Artifact,
    ArtifactWriter,
    LayoutIdentity,
    Manifest,
    ModelIdentity,
    Numerics,
    ParentIdentity,
    SourceEntry,
    Verification,
    open_artifact,
)
from quire.compiler.renewing import expiry_of
from quire.core import KVSegment
from quire.errors import ModelMismatch, VerificationFailed
from quire.model import GrowingKV, LoadedModel, Row, forward, on_device, prefill
from quire.registry import LayoutRef, SourceRef, VersionRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from quire.compiler.planning import ModulePlan
    from quire.registry import Registry
    from quire.store import Lease, Store

REPLAYED = 32  # tokens computed a second time, from the artifact, before it is accepted
TOLERANCE = {
    "float32": 1e-2,
    "float16": 1.0,
    "bfloat16": 3.0,
}  # of a logit, between two chunkings of one text


@dataclass(frozen=True, slots=True)
class Parents:
    """The open, verified artifacts that a module is compiled after, root first."""

    artifacts: tuple[Artifact, ...] = ()
    leases: tuple[Lease, ...] = ()

    def close(self) -> None:
        for artifact in self.artifacts:
            artifact.close()
        for lease in self.leases:
            lease.release()


def compile_module(
    plan: ModulePlan,
    model: LoadedModel,
    parents: Parents,
    registry: Registry,
    store: Store,
    *,
    advance: Callable[[int], None],
    actor: str,
) -> VersionRecord:
    """Compile `plan`, put the artifact into `store` and enter it into `registry` as candidate.

    Args:
        advance: called with the number of tokens just computed.

    Raises:
        StoreFull, StoreUnwritable, VerificationFailed. Nothing is left behind then.
    """
    staged = store.stage()
    try:
        manifest = _write(plan, model, parents, staged, advance)
        with open_artifact(staged, expect_digest=manifest.digest) as written:
            written.verify()
        store.commit(staged, manifest.digest)
    except BaseException:
        store.discard(staged)
        raise
    if plan.record and plan.record.state == "live":
        store.share(manifest.digest)  # it takes the place of lost bytes, and is live as soon as it is registered
    size = sum(entry.bytes for entry in manifest.files)
    reason = "; ".join(map(str, plan.reasons))
    return registry.register(record_of(plan, manifest, size), plan.golden, actor=actor, reason=reason)


def open_parents(plan: ModulePlan, store: Store) -> Parents:
    """Open and verify the artifacts of the plan's ancestors, and keep them on this machine until they are closed.

    Raises:
        ArtifactError, StoreError.
    """
    lineage: list[VersionRecord] = []
    ancestor = plan.parent
    while ancestor is not None:
        if ancestor.record is None:
            raise ModelMismatch(f"parent {ancestor.spec.module_id} is not compiled yet")
        lineage.insert(0, ancestor.record)
        ancestor = ancestor.parent
    artifacts: list[Artifact] = []
    leases: list[Lease] = []
    try:
        for record in lineage:
            leases.append(store.lease(record.digest))
            artifacts.append(open_artifact(leases[-1].directory, expect_digest=record.digest))
            artifacts[-1].verify()
    except BaseException:
        Parents(tuple(artifacts), tuple(leases)).close()
        raise
    return Parents(tuple(artifacts), tuple(leases))


def _write(
    plan: ModulePlan, model: LoadedModel, parents: Parents, directory: Path, advance: Callable[[int], None]
) -> Manifest:
    facts, chunk = model.facts, int(plan.inputs["prefill_chunk"])
    chain = tuple(on_device(a.segment, model.device) for a in parents.artifacts)
    above = parents.artifacts[-1].manifest if parents.artifacts else None
    with ArtifactWriter(
        directory,
        facts.geometry,
        len(plan.token_ids),
        plan.position_start,
        shard_bytes=plan.inputs["shard_bytes"],
    ) as writer:
        on_host = model.device.type == "cpu"
        kv = GrowingKV.over(writer.segment, facts.geometry) if on_host else model.new_kv()
        kv.reserve(len(plan.token_ids))
        logits = torch.empty(0)
        for start in range(0, len(plan.token_ids), chunk):
            piece = plan.token_ids[start : start + chunk]
            logits = prefill(model, chain, kv, piece, chunk)
            advance(len(piece))
        if not on_host:
            kv.write_to(writer.segment)
        verification = _replay(plan, model, on_device(writer.segment, model.device), chain, logits)
        return writer.finish(
            plan.token_ids,
            key=plan.key,
            module_id=plan.spec.module_id,
            title=plan.spec.title,
            tenant_id=plan.spec.tenant,
            scope=plan.spec.scope,
            # No name or revision that somebody chose: the same key gives the same bytes.
            model=ModelIdentity(facts.architecture, "", facts.fingerprint),
            tokenizer_fingerprint=facts.tokenizer_fingerprint,
            layout=LayoutIdentity(plan.layout.id, plan.layout.version, plan.layout.checksum),
            parent=ParentIdentity(above.module_id, above.version, above.key, above.digest) if above else None,
            parent_context=above.context_checksum if above else None,
            rope=facts.rope,
            numerics=numerics(model, chunk),
            sources=[SourceEntry(d.path, d.media, d.text_digest) for d in plan.documents],
            verification=verification,
        )


def _replay(
    plan: ModulePlan, model: LoadedModel, written: KVSegment, chain: tuple[KVSegment, ...], logits: torch.Tensor
) -> Verification:
    """Compute the last tokens again from the KV as it was `written`: the same logits must come out.

    Raises:
        VerificationFailed.
    """
    count = min(REPLAYED, len(plan.token_ids))
    before = len(plan.token_ids) - count
    stored = model.new_kv()
    restored = KVSegment(
        tuple(k[:, :before] for k in written.keys),
        tuple(v[:, :before] for v in written.values),
        plan.position_start,
        before,
    )
    again = forward(model, [Row((*chain, restored) if before else chain, stored, plan.token_ids[before:])])[0]
    difference = float((again.float() - logits).abs().max())
    allowed = TOLERANCE[model.geometry.dtype]
    if not difference <= allowed:  # also refuses NaN
        raise VerificationFailed(
            f"module {plan.spec.module_id}: logits from its stored KV differ by {difference:.3g} from those of the "
            f"prefill, allowed is {allowed:.3g}",
            hint="the model may depend on more than its KV; report its architecture",
        )
    return Verification(method="replay", largest_logit_difference=difference, tokens=count)


def numerics(model: LoadedModel, chunk: int) -> Numerics:
    """What the last bits of a module depend on, besides its inputs."""
    device = str(model.device)
    if model.device.type == "cuda":
        device = f"cuda {torch.cuda.get_device_name(model.device)}"
    if device == "cpu":
        device = f"cpu {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    libraries = {name: library_version(name) for name in ("torch", "transformers")}
    libraries["kernels"] = model.backend.identity
    return Numerics(device=device, threads=model.threads, prefill_chunk=chunk, libraries=libraries)


def record_of(plan: ModulePlan, manifest: Manifest, size: int) -> VersionRecord:
    """What the registry is told of an artifact that was made for `plan`."""
    parent = plan.parent.record if plan.parent else None
    verified = manifest.verification
    return VersionRecord(
        module_id=plan.spec.module_id,
        version=plan.version,
        key=plan.key,
        digest=manifest.digest,
        parent=parent.ref if parent else None,
        tenant_id=plan.spec.tenant,
        scope=plan.spec.scope,
        title=plan.spec.title,
        token_count=manifest.token_count,
        position_start=manifest.position_start,
        bytes=size,
        model_fingerprint=manifest.model.fingerprint,
        tokenizer_fingerprint=manifest.tokenizer_fingerprint,
        layout=LayoutRef(plan.layout.id, plan.layout.version, plan.layout.checksum),
        codec=manifest.codec,
        sources=tuple(SourceRef(d.path, d.digest, d.text_digest) for d in plan.documents),
        inputs=plan.inputs,
        manifest=manifest.to_bytes().decode(),
        created_at=(now := datetime.now(UTC)),
        expires_at=expiry_of(plan.spec, now),
        verification=asdict(verified) if verified else None,
    )
