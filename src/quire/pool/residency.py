"""Open modules: mapped once, checked once, leased to any number of requests.

On a CPU a module is hot when its files are mapped and verified; its bytes are the page cache's, shared by all
processes that map them. So the pool holds no copies: it holds mappings, and gives the idle ones back when the bytes
they cover exceed `max_bytes`, the longest unused first. Each open module also takes a descriptor, for its lease, and a
mapping for each file: of both the system gives a process only so many. Idle modules are closed before these run out,
and again if they do. Where the model computes elsewhere, `quire.pool.device_room` keeps copies there of what is open
here.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from quire.access import Policy
from quire.artifact import REPLACE, Artifact, open_artifact
from quire.descriptors import check_left
from quire.errors import ArtifactError, ArtifactUnreadable, DescriptorsExhausted, ResourceError, StoreFull
from quire.model import host_memory
from quire.pool.chain_lease import TIERS, ChainLease, Restored, Tier
from quire.pool.device_room import DeviceState
from quire.pool.fitting import check_chain, check_model, check_usable, revoked
from quire.pool.integrity import UNREADABLE, changed, loss_event, reader
from quire.pool.resident import Resident, check_all

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from quire.access import Principal
    from quire.core import KVSegment
    from quire.model import HostMemory, ModelFacts
    from quire.model.kernels import GuardedRange
    from quire.pool.device_room import DeviceRoom
    from quire.registry import AuditEvent, VersionRecord
    from quire.store import Lease, Store


log = logging.getLogger(__name__)

CLOSED_AT_ONCE = 16  # idle modules, where the system has run out of what they hold
TO_OPEN = 4  # descriptors that opening a module takes for a moment
SET_ASIDE_SECONDS = 60.0  # within which the same artifact is not fetched again for damage


@dataclass(frozen=True, slots=True)
class PoolState:
    """Figures for metrics: open modules, bytes they map, leases out, restores by tier, evictions, damaged copies
    that were replaced and those that could not be, modules whose bytes changed while open; the device's own."""

    modules: int
    bytes: int
    leases: int
    warm: int
    cold: int
    evicted: int
    replaced: int
    damaged: int
    lost: int
    device: DeviceState


class Pool:
    """Modules of one model, by digest. Thread-safe."""

    def __init__(
        self,
        store: Store,
        model: ModelFacts,
        *,
        max_bytes: int,
        policy: Policy,
        device: DeviceRoom | None = None,
        memory: HostMemory | None = None,
        record: Callable[[AuditEvent], None] = lambda _: None,
        max_modules: int = sys.maxsize,
        max_mappings: int = sys.maxsize,
    ) -> None:
        """
        Args:
            device: where the model computes, if it is not the CPU.
            memory: None: as it is best here.
            record: told about modules whose bytes changed while they were open.
            max_modules: open at once, idle or in use.
            max_mappings: files of theirs that are mapped, beyond which idle modules are closed.
        """
        self._memory = memory or host_memory()
        self._record = record
        self._losses: Counter[str] = Counter()  # by digest
        self._leaving: dict[str, Resident] = {}  # damaged, and still in use on the device
        self._store = store
        self._device = device
        self._policy = policy
        self._model = model
        self._max_bytes = max_bytes
        self._max_modules, self._max_mappings = max_modules, max_mappings
        self._residents: dict[str, Resident] = {}
        self._lock = threading.Lock()
        self._dropped: set[str] = set()
        self._set_aside_at: dict[str, float] = {}  # monotonic seconds, by digest
        self._damaged = {True: 0, False: 0}  # copies found, by whether they were replaced
        self._warm = self._cold = self._evicted = 0

    def lease(self, records: Sequence[VersionRecord], principal: Principal) -> ChainLease:
        """Make a chain usable: open and verify what is not open yet, check that it fits together and fits the model.

        Args:
            records: the chain, root first, as the registry gives it.
            principal: for whom; access is checked here once more, whatever was checked before.

        Raises:
            ModuleUnknown: a module of the chain is hidden from `principal`.
            ModelMismatch, ArtifactError, StoreError, NoLiveVersion (revoked), ModuleExpired: nothing may be generated.
            ResourceError: the system gives no descriptor or no memory to open another module, and none is idle.
            DeviceFull, EngineBusy: there is no room on the device, or none now.
        """
        began = time.perf_counter()
        scopes = [scope for record in records for scope in record.scopes]
        self._policy.require_readable(principal, records[-1].module_id, scopes)
        taken: list[Resident] = []
        artifacts: list[Artifact] = []
        tier: Tier = "warm"
        try:
            for record in records:
                check_usable(record)
                self._check_kept(record)
                resident, artifact, its = self._ready(record, artifacts)
                taken.append(resident)
                artifacts.append(artifact)
                tier = max(tier, its, key=TIERS.index)
            check_chain(artifacts)
            segments = self._place(records, artifacts)
        except BaseException:
            self._give_back(taken)
            raise
        with self._lock:
            self._warm, self._cold = self._warm + (tier == "warm"), self._cold + (tier != "warm")
        tokens = sum(r.token_count for r in records)
        restored = Restored(tier, tokens, time.perf_counter() - began)
        return ChainLease(
            tuple(records),
            tuple(artifacts),
            segments,
            restored,
            began + restored.seconds,
            partial(self._give_back, taken, placed=True),
            check=partial(check_all, taken),
            verify=partial(self._verify, taken, artifacts),
            losses=sum(resident.losses for resident in taken),
        )

    def look(self) -> None:
        """Compare the files of all open modules with what they were when they were verified. Mutates."""
        with self._lock:
            residents = list(self._residents.values())
        for resident in residents:
            if not resident.opening.acquire(blocking=False):
                continue  # it is being opened or looked at
            try:
                if resident.artifact:
                    self._is_sound(resident, resident.artifact)
            finally:
                resident.opening.release()

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
                self._damaged[True],
                self._damaged[False],
                self._losses.total(),
                self._device.state() if self._device else DeviceState(),
            )

    def drop(self, digests: Collection[str]) -> None:
        """Lease these no more, whatever the records say: they were revoked. Who has them keeps them until release."""
        with self._lock:
            self._dropped |= set(digests)
            self._evict(self._max_bytes)

    def make_room(self) -> int:
        """Close some idle modules, as something else needs what they hold; gives how many."""
        with self._lock:
            return self._close_idle(CLOSED_AT_ONCE)

    def close(self) -> None:
        """Let go of everything that is idle."""
        with self._lock:
            self._evict(0)

    def end(self) -> None:
        """Let go of everything that is idle, and bring nothing to the device any more."""
        self.close()
        if self._device:
            self._device.close()

    def _place(self, records: Sequence[VersionRecord], artifacts: Sequence[Artifact]) -> tuple[KVSegment, ...]:
        """The segments where the model reads them: in place, or on the device."""
        segments = tuple(artifact.segment for artifact in artifacts)
        if self._device is None:
            return segments
        return self._device.lease([(r.digest, s) for r, s in zip(records, segments, strict=True)])

    def _check_kept(self, record: VersionRecord) -> None:
        """A record that was read just before its version was revoked does not say so. Raises NoLiveVersion."""
        with self._lock:
            if record.digest in self._dropped:
                raise revoked(record)

    def check_room(self) -> None:
        """Raises DescriptorsExhausted where a module that is not open could not be opened now."""
        with self._lock:
            if any(not resident.leases for resident in self._residents.values()):
                return  # it would be closed
            if len(self._residents) >= self._max_modules:
                raise self._crowded()
        check_left(TO_OPEN)

    def _crowded(self) -> DescriptorsExhausted:
        return DescriptorsExhausted(
            f"{self._max_modules:,} modules are open and in use, and the limit on open files allows no more",
            hint="ask again in a moment; raise the hard limit on open files (ulimit -Hn) where this goes on",
        )

    def _take(self, record: VersionRecord) -> Resident:
        """Raises DescriptorsExhausted where it would be one module more than may be open, and none is idle."""
        with self._lock:
            if leaving := self._leaving.get(record.digest):
                raise changed(record, leaving.damage)
            resident = self._residents.get(record.digest)
            if resident is None:
                self._close_idle(len(self._residents) - self._max_modules + 1)
                if len(self._residents) >= self._max_modules:
                    raise self._crowded()
                resident = self._residents[record.digest] = Resident(record, self._losses[record.digest])
            resident.leases += 1
            return resident

    def _ready(self, record: VersionRecord, ancestors: Sequence[Artifact]) -> tuple[Resident, Artifact, Tier]:
        """A resident with one user more, its artifact open and as it was verified, and where its bytes came from."""
        while True:
            resident = self._take(record)
            try:
                with resident.opening:
                    tier = self._open(record, resident, ancestors) if resident.artifact is None else "warm"
                    if resident.artifact is None:  # for the type checker: `_open` sets it or raises
                        raise ArtifactError(f"{record.ref} did not open")
                    if self._is_sound(resident, resident.artifact) and not resident.retired:
                        return resident, resident.artifact, tier
            except BaseException:
                self._give_back([resident])
                raise
            self._give_back([resident])  # another one takes its place

    def _is_sound(self, resident: Resident, artifact: Artifact) -> bool:
        """Whether what was verified is what is read now; else the resident is lost. The caller holds `opening`.

        Files that were touched are read and compared with their digests. If they hold, and are the same files, that is
        what they are known by from now on; if they are others, whoever leases next opens those.
        """
        if resident.damage:
            return False
        touched = artifact.touched()
        if not touched and not resident.faulted:
            return True
        try:
            if resident.faulted:
                raise ArtifactUnreadable(f"{touched or 'no file was touched'}; {UNREADABLE}", hint=REPLACE)
            digest, read_in = artifact.manifest.digest, reader(self._memory, [])
            fresh = open_artifact(artifact.directory, expect_digest=digest, read_in=read_in)
            fresh.verify()
        except ArtifactError as damage:
            self._lose(resident, damage)
            return False
        log.info("files of %s were touched and hold: %s", resident.record.ref, touched)
        same = all(identity.same_file(artifact.identities[name]) for name, identity in fresh.identities.items())
        if same:
            artifact.identities = fresh.identities
        else:
            self._retire(resident)
        fresh.close()
        return True

    def _retire(self, resident: Resident) -> None:
        with self._lock:
            digest = resident.record.digest
            if self._residents.get(digest) is resident:
                del self._residents[digest]
            resident.retired = True
            if not resident.leases:
                self._shut(resident)

    def _lose(self, resident: Resident, damage: ArtifactError) -> None:
        """Take a resident whose bytes changed out of use, for good: its users learn it when they ask."""
        record = resident.record
        with self._lock:
            users, resident.damage = resident.leases, damage.message
            self._losses[record.digest] += 1
            if self._device and users:
                self._leaving[record.digest] = resident
        self._retire(resident)
        log.error("%s changed on this machine while it was open: %s. %s", record.ref, damage.message, damage.hint)
        self._record(loss_event(record, damage.message, users))

    def _verify(self, residents: Sequence[Resident], artifacts: Sequence[Artifact]) -> None:
        for resident, artifact in zip(residents, artifacts, strict=True):
            with resident.opening:
                if not self._is_sound(resident, artifact):
                    raise changed(resident.record, resident.damage)

    def _open(self, record: VersionRecord, resident: Resident, ancestors: Sequence[Artifact]) -> Tier:
        """Sets the resident's artifact, and says where its bytes came from. A damaged copy is replaced once.

        Where the system has run out of descriptors or memory, idle modules give theirs back, as long as there are any.
        """
        fetched: list[int] = []  # bytes, as they came from the object store
        while True:
            resident.guarded = []
            try:
                opened = self._try_open(record, ancestors, fetched, resident.guarded)
            except ResourceError as lack:
                if not (closed := self.make_room()):
                    raise
                log.warning("%d idle modules were closed to open %s: %s", closed, record.ref, lack.message)
                continue
            if opened:
                resident.kept, resident.artifact = opened
                resident.bytes = record.bytes
                return "remote" if fetched else "cold"

    def _try_open(
        self, record: VersionRecord, ancestors: Sequence[Artifact], fetched: list[int], guarded: list[GuardedRange]
    ) -> tuple[Lease, Artifact] | None:
        """A lease and what it keeps, verified; None where a damaged copy was put aside for another one."""
        with contextlib.ExitStack() as undo:
            kept = undo.enter_context(self._keep(record.digest, fetched.append))
            try:
                artifact = self._verified(record, kept, ancestors, guarded)
            except ArtifactError as damage:
                if fetched or not self._set_aside(record, kept, damage):
                    raise
                return None
            undo.pop_all()
            return kept, artifact

    def _verified(
        self, record: VersionRecord, kept: Lease, ancestors: Sequence[Artifact], guarded: list[GuardedRange]
    ) -> Artifact:
        read_in = reader(self._memory, guarded)
        artifact = open_artifact(kept.directory, expect_digest=record.digest, read_in=read_in)
        check_model(artifact, self._model)
        with self._on_its_way(record, artifact):
            artifact.verify()
            check_chain([*ancestors, artifact])
            if ancestors:
                artifact.check_follows(ancestors[-1])
        return artifact

    def _set_aside(self, record: VersionRecord, kept: Lease, damage: ArtifactError) -> bool:
        """Whether the damaged copy was put out of the way for another one: seldom, or a bad disk is fed for ever."""
        now = time.monotonic()
        with self._lock:
            again = now - self._set_aside_at.get(record.digest, float("-inf")) < SET_ASIDE_SECONDS
            self._set_aside_at[record.digest] = now
        replaced = not again and self._store.set_aside(kept)
        with self._lock:
            self._damaged[replaced] += 1
        if replaced:
            log.warning(
                "the copy of %s on this machine is damaged and is fetched again: %s", record.ref, damage.message
            )
        return replaced

    def _keep(self, digest: str, tell: Callable[[int], None]) -> Lease:
        """A lease from the store. A disk full of what is open and idle here gets that back, the oldest first."""
        while True:
            try:
                return self._store.lease(digest, tell)
            except StoreFull:
                with self._lock:
                    idle = sum(r.bytes for r in self._residents.values() if r.artifact and not r.leases)
                    if not idle:
                        raise
                    self._evict(idle - 1)

    @contextlib.contextmanager
    def _on_its_way(self, record: VersionRecord, artifact: Artifact) -> Iterator[None]:
        """Copy the artifact to the device while it is verified; nobody gets it there before, or if that fails."""
        if self._device is None:
            yield
            return
        self._device.lease([(record.digest, artifact.segment)])
        try:
            yield
        except BaseException:
            self._device.give_back([record.digest])
            self._device.drop(record.digest)
            raise
        self._device.give_back([record.digest])

    def _give_back(self, residents: Sequence[Resident], *, placed: bool = False) -> None:
        """`placed`: they have users on the device too."""
        if placed and self._device:
            self._device.give_back([resident.record.digest for resident in residents])
        with self._lock:
            for resident in residents:
                resident.leases -= 1
                resident.used_at = time.monotonic()
                if resident.retired and not resident.leases:
                    self._shut(resident)
            self._evict(self._max_bytes)

    def _evict(self, limit: int) -> None:
        """Close idle modules, the longest unused first, until they map no more than `limit` bytes."""
        idle = self._idle()
        mapped = sum(self._residents[digest].bytes for digest in idle)
        files = sum(r.artifact.mapped_files for r in self._residents.values() if r.artifact)
        for digest in idle:
            resident = self._residents[digest]
            fits = mapped <= limit and files <= self._max_mappings
            if resident.artifact and fits and digest not in self._dropped:
                continue
            mapped -= resident.bytes
            files -= resident.artifact.mapped_files if resident.artifact else 0
            self._close(digest)

    def _close_idle(self, count: int) -> int:
        """Close up to `count` idle modules, the longest unused first; how many there were."""
        doomed = self._idle()[: max(0, count)]
        for digest in doomed:
            self._close(digest)
        return len(doomed)

    def _idle(self) -> list[str]:
        """Digests of what nobody leases, the longest unused first."""
        return sorted((d for d, r in self._residents.items() if not r.leases), key=lambda d: self._residents[d].used_at)

    def _close(self, digest: str) -> None:
        resident = self._residents.pop(digest)
        self._evicted += resident.artifact is not None
        self._shut(resident)

    def _shut(self, resident: Resident) -> None:
        """Close a resident that nobody uses and nobody finds any more."""
        digest = resident.record.digest
        if self._leaving.get(digest) is resident:
            del self._leaving[digest]
        if resident.artifact and resident.kept:
            if self._device and digest not in self._residents:
                self._device.drop(digest)
            resident.artifact.close()
            resident.kept.release()
            resident.artifact, resident.kept, resident.guarded = None, None, []
