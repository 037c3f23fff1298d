"""Open modules: mapped once, checked once, leased to any number of requests.

On the CPU a module is hot when its files are mapped and verified; its bytes are the page cache's, shared by all
processes that map them. So the pool holds no copies: it holds mappings, and gives the idle ones back when the bytes
they cover exceed `max_bytes`, the longest unused first.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from quire.artifact import Artifact, open_artifact
from quire.core import Restored
from quire.errors import ArtifactError, ModelMismatch, NoLiveVersion

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from quire.core import KVSegment
    from quire.model import ModelFacts
    from quire.registry import VersionRecord
    from quire.store import Lease, Store


@dataclass(slots=True)
class _Resident:
    """One open artifact. `opening` is held while it is opened and verified, so that this happens once."""

    opening: threading.Lock = field(default_factory=threading.Lock)
    artifact: Artifact | None = None
    kept: Lease | None = None
    bytes: int = 0
    leases: int = 0
    used_at: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolState:
    """Figures for metrics: open modules, bytes they map, leases out, restores by tier, evictions."""

    modules: int
    bytes: int
    leases: int
    warm: int
    cold: int
    evicted: int


class ChainLease:
    """A chain in use. Its modules are neither evicted nor deleted until `release`."""

    def __init__(
        self,
        pool: Pool,
        records: tuple[VersionRecord, ...],
        artifacts: tuple[Artifact, ...],
        restored: Restored,
    ) -> None:
        self.records = records
        self.restored = restored
        self.segments: tuple[KVSegment, ...] = tuple(a.segment for a in artifacts)
        self._artifacts = artifacts
        self._pool: Pool | None = pool

    @property
    def token_ids(self) -> list[int]:
        """Token ids of the whole chain, root first."""
        return [token for artifact in self._artifacts for token in artifact.token_ids]

    @property
    def leaf(self) -> VersionRecord:
        """The module that answers."""
        return self.records[-1]

    def release(self) -> None:
        """Give the chain back. May be called twice."""
        pool, self._pool = self._pool, None
        if pool:
            pool._give_back(self.records)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Pool:
    """Modules of one model, by digest. Thread-safe."""

    def __init__(self, store: Store, model: ModelFacts, *, max_bytes: int) -> None:
        self._store = store
        self._model = model
        self._max_bytes = max_bytes
        self._residents: dict[str, _Resident] = {}
        self._lock = threading.Lock()
        self._warm = self._cold = self._evicted = 0

    def lease(self, records: Sequence[VersionRecord]) -> ChainLease:
        """Make a chain usable: open and verify what is not open yet, check that it fits together and fits the model.

        Args:
            records: the chain, root first, as the registry gives it.

        Raises:
            ModelMismatch, ArtifactError, StoreError, NoLiveVersion (revoked or expired): nothing may be generated.
        """
        began = time.perf_counter()
        taken: list[VersionRecord] = []
        artifacts: list[Artifact] = []
        cold = False
        try:
            for record in records:
                check_usable(record)
                resident = self._take(record.digest)
                taken.append(record)
                with resident.opening:
                    if resident.artifact is None:
                        cold = True
                        self._open(record, resident, artifacts)
                    if resident.artifact is None:  # for the type checker: `_open` sets it or raises
                        raise ArtifactError(f"{record.ref} did not open")
                    artifacts.append(resident.artifact)
            check_chain(artifacts)
        except BaseException:
            self._give_back(taken)
            raise
        with self._lock:
            self._warm, self._cold = self._warm + (not cold), self._cold + cold
        tokens = sum(r.token_count for r in records)
        restored = Restored("cold" if cold else "warm", tokens, time.perf_counter() - began)
        return ChainLease(self, tuple(records), tuple(artifacts), restored)

    def state(self) -> PoolState:
        """What is open now, and what has happened since the start."""
        with self._lock:
            residents = [r for r in self._residents.values() if r.artifact]
            return PoolState(
                len(residents),
                sum(r.bytes for r in residents),
                sum(r.leases for r in residents),
                self._warm,
                self._cold,
                self._evicted,
            )

    def close(self) -> None:
        """Let go of everything that is idle."""
        with self._lock:
            self._evict(0)

    def _take(self, digest: str) -> _Resident:
        with self._lock:
            resident = self._residents.setdefault(digest, _Resident())
            resident.leases += 1
            return resident

    def _open(self, record: VersionRecord, resident: _Resident, ancestors: Sequence[Artifact]) -> None:
        kept = self._store.lease(record.digest)
        try:
            artifact = open_artifact(self._store.locate(record.digest), expect_digest=record.digest)
            check_model(artifact, self._model)
            artifact.verify()
            check_chain([*ancestors, artifact])
            if ancestors:
                artifact.check_follows(ancestors[-1])
        except BaseException:
            kept.release()
            raise
        resident.kept, resident.bytes, resident.artifact = kept, record.bytes, artifact

    def _give_back(self, records: Sequence[VersionRecord]) -> None:
        with self._lock:
            for record in records:
                resident = self._residents[record.digest]
                resident.leases -= 1
                resident.used_at = time.monotonic()
            self._evict(self._max_bytes)

    def _evict(self, limit: int) -> None:
        idle = sorted((r.used_at, d) for d, r in self._residents.items() if r.leases == 0)
        mapped = sum(self._residents[d].bytes for _, d in idle)
        for _, digest in idle:
            resident = self._residents[digest]
            if resident.artifact and mapped <= limit:
                continue
            mapped -= resident.bytes
            del self._residents[digest]
            if resident.artifact and resident.kept:
                resident.artifact.close()
                resident.kept.release()
                self._evicted += 1


def check_usable(record: VersionRecord) -> None:
    """Raises NoLiveVersion for a version that must not answer any more."""
    if record.state == "revoked":
        raise NoLiveVersion(f"{record.ref} is revoked", hint="choose another version with `quire show`")
    if record.expires_at is not None and record.expires_at <= datetime.now(UTC):
        raise NoLiveVersion(f"{record.ref} expired at {record.expires_at:%Y-%m-%d %H:%M} UTC", hint="build it again")


def check_model(artifact: Artifact, model: ModelFacts) -> None:
    """Compare what the module was compiled for with what is loaded, field by field.

    Raises:
        ModelMismatch: naming the field, the expected and the actual value.
    """
    manifest = artifact.manifest
    pairs = {
        "model fingerprint": (manifest.model.fingerprint, model.fingerprint),
        "tokenizer fingerprint": (manifest.tokenizer_fingerprint, model.tokenizer_fingerprint),
        "dtype": (manifest.dtype, model.geometry.dtype),
        "KV geometry": (manifest.geometry, model.geometry),
        "rotary parameters": (manifest.rope, model.rope),
    }
    for name, (module_has, model_has) in pairs.items():
        if module_has != model_has:
            raise ModelMismatch(
                f"{manifest.module_id}@{manifest.version}: {name} is {module_has}, the loaded model has {model_has}",
                hint="run `quire build` with this model, or serve with the model it was compiled for",
            )


def check_chain(artifacts: Sequence[Artifact]) -> None:
    """Each module must stand after the very one it was compiled after. Reads manifests only.

    Raises:
        ModelMismatch.
    """
    parent, position = None, 0
    for artifact in artifacts:
        manifest = artifact.manifest
        found = manifest.parent.digest if manifest.parent else None
        if found != parent or manifest.position_start != position:
            raise ModelMismatch(
                f"{manifest.module_id}@{manifest.version} was compiled after {found} up to position "
                f"{manifest.position_start}; this chain has {parent} up to position {position}",
                hint="run `quire build`",
            )
        parent, position = manifest.digest, manifest.position_start + manifest.token_count
