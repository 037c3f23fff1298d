"""An open module whose files change is closed, unless its bytes are the same; reading it never ends the process."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from quire import Project
from quire.access import LOCAL, Policy
from quire.errors import ArtifactError, ModuleChanged
from quire.model import HostMemory, ModelFacts, host_memory
from quire.pool import DeviceRoom, Pool
from quire.pool.streams import HostStream
from quire.registry import AuditEvent
from quire.store.objects import Objects
from quire.store.remote import Remote
from quire.store.tiers import TieredStore

from .conftest import chain

BIG = 1 << 40


class Watched:
    """A pool on a project, and what it has recorded."""

    def __init__(self, project: Project, facts: ModelFacts, **options: object) -> None:
        self.events: list[AuditEvent] = []
        given = {"store": project.store, "policy": Policy(), "max_bytes": BIG, "record": self.events.append, **options}
        self.pool = Pool(model=facts, **given)  # type: ignore[arg-type]
        self.chain = chain(project)
        [self.shard] = project.store.locate(self.chain[-1].digest).glob("kv-*.safetensors")
        self.shard.chmod(0o644)

    def overwrite(self) -> None:
        with self.shard.open("r+b") as file:
            file.seek(5000)
            file.write(b"other bytes")


@pytest.fixture
def watched(project: Project, facts: ModelFacts) -> Watched:
    return Watched(project, facts)


def sums(segments: tuple[object, ...]) -> list[float]:
    return [float(t.double().sum()) for s in segments for t in (*s.keys, *s.values)]  # type: ignore[attr-defined]


def test_bytes_that_changed_are_known_to_their_users_and_leased_no_more(watched: Watched) -> None:
    pool, lease = watched.pool, watched.pool.lease(watched.chain, LOCAL)
    lease.check()
    before = lease.untouched
    watched.overwrite()
    assert (before, lease.untouched) == (True, False)
    pool.look()
    with pytest.raises(ModuleChanged, match=r"kv-00000\.safetensors") as change:
        lease.check()
    assert "quire fsck --repair" in change.value.hint
    with pytest.raises(ModuleChanged):
        lease.verify()
    with pytest.raises(ArtifactError, match=r"kv-00000\.safetensors"):
        pool.lease(watched.chain, LOCAL)
    assert pool.state().lost == 1
    [event] = watched.events
    assert (event.kind, event.digest, event.details) == ("module.changed", watched.chain[-1].digest, {"users": 1})
    assert pool.state().modules == 1, "its parent's"
    lease.release()
    pool.look()
    assert (pool.state().leases, len(watched.events)) == (0, 1)


def test_the_next_lease_finds_it_without_a_look(watched: Watched) -> None:
    watched.pool.lease(watched.chain, LOCAL).release()
    watched.overwrite()
    with pytest.raises(ArtifactError):
        watched.pool.lease(watched.chain, LOCAL)
    assert [event.details for event in watched.events] == [{"users": 1}], "the one that asked"
    assert watched.pool.state().leases == 0


def test_a_file_that_is_cut_short_reads_as_zeros_and_is_known(project: Project, facts: ModelFacts) -> None:
    watched = Watched(project, facts, memory=host_memory("auto"))
    lease = watched.pool.lease(watched.chain, LOCAL)
    before = sums(lease.segments)
    os.truncate(watched.shard, 4096)
    after = sums(lease.segments)
    if host_memory("auto").guard is None:
        assert after == before, "copied"
        return
    count = len(lease.segments[0].keys) * 2
    assert after[:count] == before[:count], "the parent's"
    assert not any(after[count:])
    with pytest.raises(ModuleChanged, match="cut short"):
        lease.check()
    watched.pool.look()
    assert "had" in watched.events[0].why


def test_a_copy_is_beyond_the_reach_of_its_file(project: Project, facts: ModelFacts) -> None:
    watched = Watched(project, facts, memory=HostMemory(copies=True))
    with watched.pool.lease(watched.chain, LOCAL) as lease:
        before = sums(lease.segments)
        watched.overwrite()
        os.truncate(watched.shard, 0)
        assert sums(lease.segments) == before
        watched.pool.look()
        with pytest.raises(ModuleChanged):
            lease.check()


def test_touched_files_that_hold_are_read_once_and_the_module_stays_open(watched: Watched) -> None:
    pool, lease = watched.pool, watched.pool.lease(watched.chain, LOCAL)
    os.utime(watched.shard)
    before = lease.untouched
    lease.verify()
    assert (before, lease.untouched) == (False, True)
    with pool.lease(watched.chain, LOCAL) as again:
        assert again.segments[-1] is lease.segments[-1]
        assert again.restored.tier == "warm"
    assert (pool.state().lost, watched.events) == (0, [])


def test_another_file_with_the_same_bytes_is_opened_by_the_next_and_the_old_one_serves_its_users(
    watched: Watched,
) -> None:
    pool, lease = watched.pool, watched.pool.lease(watched.chain, LOCAL)
    copy = Path(shutil.copyfile(watched.shard, watched.shard.with_name("copy")))
    copy.replace(watched.shard)
    with pool.lease(watched.chain, LOCAL) as again:
        assert again.restored.tier == "cold"
        assert again.segments[-1] is not lease.segments[-1]
        assert torch.equal(again.segments[-1].keys[0], lease.segments[-1].keys[0])
        assert again.basis == lease.basis
    lease.check()
    lease.verify()
    lease.release()
    assert (pool.state().leases, pool.state().modules, pool.state().lost) == (0, 2, 0)


def test_an_object_store_gives_the_bytes_again(project: Project, facts: ModelFacts, tmp_path: Path) -> None:
    remote = Remote(Objects(f"file://{tmp_path}/objects"))
    store = TieredStore(project.store, remote)  # type: ignore[arg-type]
    for record in chain(project):
        store.share(record.digest)
    watched = Watched(project, facts, store=store)
    lease = watched.pool.lease(watched.chain, LOCAL)
    before = sums(lease.segments)
    watched.overwrite()
    with watched.pool.lease(watched.chain, LOCAL) as again:
        assert again.restored.tier == "remote"
        assert sums(again.segments) == before
        assert again.basis != lease.basis, "nothing that was computed behind other bytes is used again"
        again.check()
        with pytest.raises(ModuleChanged):
            lease.check()
    assert (watched.pool.state().lost, watched.pool.state().replaced) == (1, 1)


def test_a_copy_on_the_device_goes_with_its_last_user(project: Project, facts: ModelFacts) -> None:
    room = DeviceRoom(HostStream(), BIG)
    watched = Watched(project, facts, device=room)
    lease = watched.pool.lease(watched.chain, LOCAL)
    kept = Path(shutil.copyfile(watched.shard, f"{watched.shard}.kept"))
    watched.overwrite()
    watched.pool.look()
    shutil.copyfile(kept, watched.shard)
    with pytest.raises(ModuleChanged):
        watched.pool.lease(watched.chain, LOCAL)
    lease.release()
    with watched.pool.lease(watched.chain, LOCAL) as again:
        assert again.restored.tier == "cold"
    assert room.state().modules == 2
    watched.pool.end()
