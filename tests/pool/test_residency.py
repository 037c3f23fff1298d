"""A chain is opened once, checked before it is used, read in place, and let go when nobody needs it."""

from __future__ import annotations

import random
import shutil
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from quire import Project, open_project
from quire.access import LOCAL, AccessEvent, Policy, Principal
from quire.core import Scope, ScopeKind
from quire.errors import (
    ArtifactError,
    ArtifactNotFound,
    ChecksumMismatch,
    ModelMismatch,
    ModuleExpired,
    ModuleUnknown,
    NoLiveVersion,
)
from quire.model import ModelFacts
from quire.model.kernels import find_compiler
from quire.pool import Pool

from .conftest import chain

BIG = 1 << 40


def pool_of(project: Project, facts: ModelFacts, max_bytes: int = BIG) -> Pool:
    return Pool(project.store, facts, max_bytes=max_bytes, policy=Policy())


def test_the_first_lease_is_cold_and_the_next_ones_are_warm(project: Project, facts: ModelFacts) -> None:
    pool = pool_of(project, facts)
    with pool.lease(chain(project), LOCAL) as first, pool.lease(chain(project), LOCAL) as second:
        assert (first.restored.tier, second.restored.tier) == ("cold", "warm")
        assert first.restored.tokens == sum(r.token_count for r in chain(project)) == len(first.token_ids)
        assert first.segments[0] is second.segments[0], "one copy for all"
        assert [s.position_start for s in first.segments] == [0, first.segments[0].token_count]
        assert first.leaf.module_id == "prices"
        assert (pool.state().modules, pool.state().leases) == (2, 4)
    with pool.lease(chain(project, "shipping"), LOCAL) as third:
        assert third.restored.tier == "cold", "its parent was open, it was not"
    state = pool.state()
    assert (state.modules, state.leases, state.warm, state.cold, state.evicted) == (3, 0, 1, 2, 0)


def test_segments_lie_in_the_files_mapping(project: Project, facts: ModelFacts) -> None:
    if not find_compiler():
        pytest.skip("there is no C++ compiler, and files are copied")
    with pool_of(project, facts).lease(chain(project), LOCAL) as lease:
        for segment, record in zip(lease.segments, lease.records, strict=True):
            place = str(project.store.locate(record.digest))
            ranges = [
                tuple(int(end, 16) for end in line.split()[0].split("-"))
                for line in Path("/proc/self/maps").read_text().splitlines()
                if place in line
            ]
            for tensor in (*segment.keys, *segment.values):
                assert any(low <= tensor.data_ptr() < high for low, high in ranges)


def test_a_lease_is_released_once(project: Project, facts: ModelFacts) -> None:
    pool = pool_of(project, facts)
    kept, other = pool.lease(chain(project), LOCAL), pool.lease(chain(project), LOCAL)
    other.release()
    other.release()
    assert pool.state().leases == 2
    kept.release()
    assert pool.state().leases == 0


def test_idle_modules_go_when_they_exceed_the_bound_the_longest_unused_first(
    project: Project, facts: ModelFacts
) -> None:
    size = {m: project.registry.live(m).bytes for m in ("company", "prices", "shipping")}
    pool = pool_of(project, facts, max_bytes=size["company"] + size["shipping"])
    with pool.lease(chain(project, "prices"), LOCAL):
        pass
    assert pool.state().modules == 2
    with pool.lease(chain(project, "shipping"), LOCAL):
        assert pool.state().modules == 3, "what is leased does not count"
    assert (pool.state().modules, pool.state().evicted) == (2, 1)
    with pool.lease(chain(project, "shipping"), LOCAL) as lease:
        assert lease.restored.tier == "warm"
    with pool.lease(chain(project, "prices"), LOCAL) as lease:
        assert lease.restored.tier == "cold"


def test_nothing_is_kept_with_a_bound_of_zero(project: Project, facts: ModelFacts) -> None:
    pool = pool_of(project, facts, max_bytes=0)
    lease = pool.lease(chain(project), LOCAL)
    segment = lease.segments[-1]
    pool.close()
    assert pool.state().modules == 2, "leased: not closed"
    assert float(segment.keys[0].sum()) == float(segment.keys[0].sum())
    lease.release()
    assert (pool.state().modules, pool.state().bytes) == (0, 0)


def test_what_is_leased_or_kept_warm_cannot_be_deleted(project: Project, facts: ModelFacts) -> None:
    pool = pool_of(project, facts)
    digest = chain(project)[-1].digest
    with pool.lease(chain(project), LOCAL):
        assert not project.store.delete(digest)
    assert not project.store.delete(digest), "warm"
    pool.close()
    assert project.store.delete(digest)
    with pytest.raises(ArtifactNotFound):
        pool.lease(chain(project), LOCAL)
    assert pool.state().leases == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "b3:" + "0" * 64}, "model fingerprint"),
        ({"tokenizer_fingerprint": "b3:" + "0" * 64}, "tokenizer fingerprint"),
        ({"rope": {"rope_theta": 1.0, "rope_type": "default"}}, "rotary parameters"),
        ({"geometry": {"dtype": "bfloat16"}}, "dtype"),
        ({"geometry": {"layers": 3}}, "KV geometry"),
        ({"geometry": {"head_dim": 32}}, "KV geometry"),
    ],
    ids=str,
)
def test_another_model_is_refused_field_by_field(
    project: Project, facts: ModelFacts, change: dict[str, Any], said: str
) -> None:
    if geometry := change.get("geometry"):
        change = {"geometry": replace(facts.geometry, **geometry)}
    pool = pool_of(project, replace(facts, **change))
    with pytest.raises(ModelMismatch, match=said) as refused:
        pool.lease(chain(project), LOCAL)
    assert refused.value.hint
    assert pool.state().leases == pool.state().modules == 0
    for record in chain(project):
        assert project.store.delete(record.digest), "nothing is held after a refusal"


def test_a_chain_put_together_wrongly_is_refused(project: Project, facts: ModelFacts) -> None:
    pool = pool_of(project, facts)
    company, prices = chain(project)
    shipping = chain(project, "shipping")[-1]
    for wrong in (
        (prices,),
        (prices, company),
        (company, company),
        (company, prices, shipping),
        (company, shipping, prices),
    ):
        with pytest.raises(ModelMismatch, match="was compiled after"):
            pool.lease(wrong, LOCAL)
        assert pool.state().leases == 0
    with pool.lease((company, prices), LOCAL):
        pass


def test_revoked_and_expired_versions_are_refused(project: Project, facts: ModelFacts) -> None:
    pool = pool_of(project, facts)
    root, leaf = chain(project)
    past, future = (datetime.now(UTC) + timedelta(seconds=s) for s in (-1, 600))
    with pool.lease((root, replace(leaf, expires_at=future)), LOCAL):
        pass
    refused = [(replace(leaf, expires_at=past), ModuleExpired), (replace(leaf, state="revoked"), NoLiveVersion)]
    for record, error in refused:
        with pytest.raises(error, match=str(leaf.ref)):
            pool.lease((root, record), LOCAL)
        with pytest.raises(error):
            pool.lease((replace(root, state=record.state, expires_at=record.expires_at), leaf), LOCAL)
    assert pool.state().leases == 0


def test_damage_is_found_by_the_first_lease_and_repair_is_noticed(project: Project, facts: ModelFacts) -> None:
    pool = pool_of(project, facts)
    shard = project.store.locate(chain(project)[-1].digest) / "kv-00000.safetensors"
    good = shard.read_bytes()
    shard.chmod(0o644)
    shard.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    for _ in range(2):
        with pytest.raises(ChecksumMismatch):
            pool.lease(chain(project), LOCAL)
        assert pool.state().leases == 0
    shard.write_bytes(good)
    with pool.lease(chain(project), LOCAL):
        pass


def test_threads_that_lease_the_same_chain_open_it_once(project: Project, facts: ModelFacts) -> None:
    pool = pool_of(project, facts)
    ready, failed = threading.Barrier(12), []

    def use(seed: int) -> None:
        draw = random.Random(seed)
        ready.wait()
        try:
            for _ in range(30):
                with pool.lease(chain(project, draw.choice(["prices", "shipping"])), LOCAL) as lease:
                    assert lease.segments[0].token_count == len(lease.token_ids) - lease.segments[1].token_count
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    state = pool.state()
    assert (state.modules, state.leases, state.evicted) == (3, 0, 0)
    assert state.cold <= 24, "only those that met a module before it was open"


def test_threads_under_a_tight_bound_always_get_the_right_bytes(project: Project, facts: ModelFacts) -> None:
    pool = pool_of(project, facts, max_bytes=0)
    expected = {}
    for module in ("company", "prices", "shipping"):
        with pool.lease(chain(project, module), LOCAL) as lease:
            expected[module] = (lease.token_ids, float(lease.segments[-1].keys[1].double().sum()))
    failed: list[Any] = []

    def use(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(25):
            module = draw.choice(list(expected))
            with pool.lease(chain(project, module), LOCAL) as lease:
                found = (lease.token_ids, float(lease.segments[-1].keys[1].double().sum()))
            if found != expected[module]:
                failed.append(module)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert (pool.state().modules, pool.state().leases) == (0, 0)


def test_swapped_artifacts_are_refused(project: Project, facts: ModelFacts) -> None:
    """The directory of one module under the name of another."""
    a, b = (project.store.locate(chain(project, m)[-1].digest) for m in ("prices", "shipping"))
    a.rename(a.with_name("aside"))
    shutil.copytree(b, a)
    with pytest.raises(ArtifactError):
        pool_of(project, facts).lease(chain(project), LOCAL)


READER = Principal("acme", "ann", frozenset({"legal"}), frozenset({"reader"}))


@pytest.mark.parametrize("hidden", [0, 1])
def test_no_kv_is_leased_to_who_may_not_read_all_of_the_chain(project: Project, facts: ModelFacts, hidden: int) -> None:
    """Whoever asks, by whatever way: the pool does not rely on what was checked before. Nothing is opened, either."""
    told: list[AccessEvent] = []
    pool = Pool(project.store, facts, max_bytes=1 << 30, policy=Policy(told.append))
    seen = [replace(record, scope=Scope("workspace", "acme/legal")) for record in chain(project)]
    for foreign in ("tenant:globex", "workspace:acme/board", "user:acme/bob", "user:globex/ann"):
        kind, _, owner = foreign.partition(":")
        records = list(seen)
        records[hidden] = replace(records[hidden], scope=Scope(cast("ScopeKind", kind), owner))
        with pytest.raises(ModuleUnknown) as refused:
            pool.lease(records, READER)
        assert str(refused.value) == f"no module named {records[-1].module_id!r}"
    assert len(told) == 4
    assert all("is out of the reach of acme/ann" in event.reason for event in told)
    assert pool.state().modules == pool.state().leases == 0
    with pool.lease(seen, READER) as lease:
        assert lease.records == tuple(seen)
    with pytest.raises(ModuleUnknown):
        pool.lease(seen, replace(READER, roles=frozenset()))
    with pytest.raises(ModuleUnknown):
        pool.lease(seen, replace(READER, workspaces=frozenset()))
    pool.close()


def test_a_damaged_copy_is_fetched_again_once(
    shop: Path, tmp_path: Path, facts: ModelFacts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("QUIRE_STORE_URL", f"file://{tmp_path}/objects")
    with open_project(shop) as project:
        links = chain(project)
        project.share(links)
        shard = project.store.locate(links[-1].digest) / "kv-00000.safetensors"
        good = shard.read_bytes()
        _damage(shard)
        pool = pool_of(project, facts)
        other = project.store.lease(links[-1].digest)  # another process goes on with what it has
        with pool.lease(links, LOCAL) as lease:
            assert lease.restored.tier == "remote"
            assert (shard.read_bytes(), (pool.state().replaced, pool.state().damaged)) == (good, (1, 0))
        other.release()
        assert not list((shop / ".quire" / "damaged").iterdir()), "a good one has come"
        assert [record.levelname for record in caplog.records if str(links[-1].ref) in record.getMessage()] == [
            "WARNING"
        ]


def test_a_copy_that_is_damaged_in_the_object_store_too_is_refused(
    shop: Path, tmp_path: Path, facts: ModelFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIRE_STORE_URL", f"file://{tmp_path}/objects")
    with open_project(shop) as project:
        links = chain(project)
        project.share(links)
        here = project.store.locate(links[-1].digest)
        there = tmp_path / "objects" / "artifacts" / here.name / "kv-00000.safetensors"
        _damage(here / there.name)
        good = there.read_bytes()
        _damage(there)
        pool = pool_of(project, facts)
        with pytest.raises(ChecksumMismatch, match="objects"):
            pool.lease(links, LOCAL)
        assert not here.exists(), "nothing is answered from either"
        assert [path.name for path in (shop / ".quire" / "damaged").iterdir()] == [here.name]
        there.write_bytes(good)
        monkeypatch.setattr("quire.store.tiers.REMEMBERED", 0.0)  # or it fails for two seconds as it just did
        with pool.lease(links, LOCAL) as lease:
            assert lease.restored.tier == "remote"


def test_a_damaged_copy_is_kept_while_there_is_no_other(
    shop: Path, tmp_path: Path, facts: ModelFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIRE_STORE_URL", f"file://{tmp_path}/objects")
    with open_project(shop) as project:
        links = chain(project)
        here = project.store.locate(links[-1].digest)
        _damage(here / "kv-00000.safetensors")
        pool = pool_of(project, facts)
        with pytest.raises(ChecksumMismatch):
            pool.lease(links, LOCAL)
        assert (here.exists(), pool.state().replaced, pool.state().damaged) == (True, 0, 1)


def _damage(file: Path) -> None:
    file.chmod(0o644)
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
