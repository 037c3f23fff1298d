"""Compile here, send there, restore anywhere: over HTTP from a real S3 server."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from services.proxy import Fault
from services.s3 import KEY, SECRET

from quire.artifact import open_artifact
from quire.errors import (
    ArtifactMissing,
    ArtifactNotFound,
    ChecksumMismatch,
    InvalidSetting,
    QuireError,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnreachable,
)
from quire.store import DiskStore
from quire.store.objects import Objects
from quire.store.remote import Remote
from quire.store.tiers import TieredStore

from .conftest import Shared, commit, content, nothing_left

SIZE = 20_980_000  # bytes of an artifact, a little more


def test_what_was_shared_is_restored_elsewhere_to_the_byte(shared: Shared, tmp_path: Path) -> None:
    here, there = shared.store(tmp_path / "here"), shared.store(tmp_path / "there")
    digest = commit(here)
    assert not there.has(digest)
    assert here.share(digest) > SIZE
    assert here.share(digest) == 0, "it is there already"
    assert there.has(digest)
    assert there.digests() == []
    with there.lease(digest) as lease, open_artifact(lease.directory, expect_digest=digest) as artifact:
        artifact.verify()
        assert content(lease.directory) == content(here.locate(digest))
        assert {path.stat().st_mode & 0o777 for path in lease.directory.iterdir()} == {0o444}
    shared.proxy.forget()
    there.lease(digest).release()
    assert shared.proxy.connections == shared.proxy.received == 0, "what is here is leased without asking"


def test_a_directory_does_as_an_object_store(tmp_path: Path) -> None:
    remote = Remote(Objects(f"file://{tmp_path}/mounted%20here"))
    here, there = (TieredStore(DiskStore(tmp_path / name), remote) for name in ("here", "there"))
    digest = commit(here)
    assert not there.has(digest)
    assert here.share(digest) > SIZE
    assert here.share(digest) == 0
    assert (tmp_path / "mounted here" / "artifacts").is_dir()
    assert content(there.lease(digest).directory) == content(here.locate(digest))
    assert remote.problem(digest) == ""
    assert remote.digests() == [digest]
    here.delete(digest)
    assert remote.digests() == []


def test_everybody_waits_for_one_download(shared: Shared, tmp_path: Path) -> None:
    digest = commit(here := shared.store(tmp_path / "here"))
    here.share(digest)
    stores = [shared.store(tmp_path / "there") for _ in range(2)]  # two gateways on one disk
    shared.proxy.forget()
    leased: list[Path] = []
    threads = [
        threading.Thread(target=lambda n=n: leased.append(stores[n % 2].lease(digest).directory)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(leased) == 8
    assert len(set(leased)) == 1
    assert SIZE < shared.proxy.received < 1.05 * SIZE


def test_a_connection_that_is_cut_costs_a_piece(shared: Shared, tmp_path: Path) -> None:
    digest = commit(here := shared.store(tmp_path / "here"))
    here.share(digest)
    shared.proxy.forget()
    shared.proxy.fault = Fault("cut", after=5_000_000, times=2)
    there = shared.store(tmp_path / "there")
    assert content(there.lease(digest).directory) == content(here.locate(digest))
    assert shared.proxy.fault.times == 0
    assert shared.proxy.received < SIZE + 2 * (8 << 20)


@pytest.mark.services
def test_a_connection_that_falls_silent_is_given_up_and_replaced(shared: Shared, tmp_path: Path) -> None:
    digest = commit(here := shared.store(tmp_path / "here"))
    here.share(digest)
    shared.proxy.fault = Fault("stall", after=5_000_000, times=1)
    there = shared.store(tmp_path / "there", timeout=2.0)
    began = time.monotonic()
    assert content(there.lease(digest).directory) == content(here.locate(digest))
    assert 1.0 < time.monotonic() - began < 10.0


@pytest.mark.services
def test_a_byte_that_changes_on_the_way_is_noticed_and_fetched_again(shared: Shared, tmp_path: Path) -> None:
    digest = commit(here := shared.store(tmp_path / "here"))
    here.share(digest)
    shared.proxy.fault = Fault("flip", after=1_000_000, times=1)
    there = shared.store(tmp_path / "there")
    assert content(there.lease(digest).directory) == content(here.locate(digest))
    assert shared.proxy.fault.times == 0


@pytest.mark.services
def test_wrong_bytes_in_the_store_are_refused(shared: Shared, tmp_path: Path) -> None:
    digest = commit(here := shared.store(tmp_path / "here"))
    here.share(digest)
    name = shared.name(digest, "kv-00001.safetensors")
    data = shared.s3.get(shared.bucket, name)
    shared.s3.put(shared.bucket, name, data[:-1] + b"!")
    there = shared.store(tmp_path / "there")
    with pytest.raises(ChecksumMismatch, match=r"kv-00001.safetensors of b3:.*expected b3:.*found b3:") as refused:
        there.lease(digest)
    assert refused.value.hint
    assert nothing_left(tmp_path / "there")
    assert here.share(digest) > 10_000_000, "what it was sent with is not what lies there: sent again"
    time.sleep(2.1)  # the failure is remembered for a while
    assert content(there.lease(digest).directory) == content(here.locate(digest))


@pytest.mark.services
@pytest.mark.parametrize("lost", ["kv-00001.safetensors", "tokens.safetensors"])
def test_a_missing_file_is_named(shared: Shared, tmp_path: Path, lost: str) -> None:
    digest = commit(here := shared.store(tmp_path / "here"))
    here.share(digest)
    shared.s3.delete(shared.bucket, shared.name(digest, lost))
    there = shared.store(tmp_path / "there")
    with pytest.raises(ArtifactMissing, match=f"expected {lost} of {digest}, found nothing"):
        there.lease(digest)
    assert nothing_left(tmp_path / "there")
    assert lost in here.remote.problem(digest)
    assert here.share(digest) > 0, "and pushing mends it"
    assert here.remote.problem(digest) == ""


@pytest.mark.services
def test_a_manifest_that_is_not_its_own_is_refused(shared: Shared, tmp_path: Path) -> None:
    here = shared.store(tmp_path / "here")
    digests = [commit(here, seed) for seed in range(2)]
    for digest in digests:
        here.share(digest)
    other = shared.s3.get(shared.bucket, shared.name(digests[1], "manifest.json"))
    shared.s3.put(shared.bucket, shared.name(digests[0], "manifest.json"), other)
    with pytest.raises(ChecksumMismatch):
        shared.store(tmp_path / "there").lease(digests[0])
    assert nothing_left(tmp_path / "there")


@pytest.mark.services
def test_without_the_store_what_is_here_answers_and_the_rest_refuses_soon(shared: Shared, tmp_path: Path) -> None:
    here = shared.store(tmp_path / "here", timeout=3.0)
    first, second = commit(here), commit(here, 1)
    here.share(first)
    here.share(second)
    there = shared.store(tmp_path / "there", timeout=3.0)
    there.lease(first).release()
    shared.proxy.down = True
    shared.proxy.cut_all()
    there.lease(first).release()
    began = time.monotonic()
    with pytest.raises(StoreUnreachable, match="cannot be reached") as gone:
        there.lease(second)
    assert time.monotonic() - began < 15
    assert "go on answering" in gone.value.hint
    began = time.monotonic()
    with pytest.raises(StoreUnreachable):
        there.lease(second)
    assert time.monotonic() - began < 0.5, "who asks right after is told at once"
    shared.proxy.down = False
    time.sleep(2.1)
    there.lease(second).release()


@pytest.mark.services
def test_an_upload_may_take_longer_than_a_silence(shared: Shared, tmp_path: Path) -> None:
    """A service answers a part when all of it has come, which over a slow line is late."""
    here = shared.store(tmp_path / "here", timeout=1.0)
    digest = commit(here)
    shared.proxy.bytes_per_second = 6_000_000
    began = time.monotonic()
    here.share(digest)
    assert time.monotonic() - began > 1.0
    shared.proxy.bytes_per_second = 0
    assert here.remote.problem(digest) == ""


@pytest.mark.services
def test_an_upload_that_fails_shows_nothing_and_the_next_one_goes_on(shared: Shared, tmp_path: Path) -> None:
    here, there = shared.store(tmp_path / "here"), shared.store(tmp_path / "there")
    digest = commit(here)
    gone = 0

    def cut_in_the_second_shard(count: int) -> None:
        nonlocal gone
        gone += count
        shared.proxy.down = gone > 11_000_000
        if shared.proxy.down:
            shared.proxy.cut_all()

    with pytest.raises(StoreUnreachable):
        here.share(digest, cut_in_the_second_shard)
    shared.proxy.down = False
    assert shared.files(digest) == ["kv-00000.safetensors", "tokens.safetensors"]
    assert not there.has(digest)
    with pytest.raises(ArtifactNotFound):
        there.lease(digest)
    files = {path.name: path.stat().st_size for path in here.locate(digest).iterdir()}
    assert here.share(digest) == files["kv-00001.safetensors"] + files["manifest.json"]
    assert there.has(digest)


def test_a_file_that_is_damaged_here_never_becomes_visible(shared: Shared, tmp_path: Path) -> None:
    here = shared.store(tmp_path / "here")
    digest = commit(here)
    victim = here.locate(digest) / "kv-00000.safetensors"
    victim.chmod(0o644)
    with victim.open("r+b") as file:
        file.seek(7_000_000)
        file.write(b"!")
    with pytest.raises(ChecksumMismatch, match="kv-00000"):
        here.share(digest)
    assert shared.files(digest) == ["tokens.safetensors"]
    assert shared.s3.uploads(shared.bucket) == 0


@pytest.mark.services
def test_what_was_used_least_makes_room(shared: Shared, tmp_path: Path) -> None:
    here = shared.store(tmp_path / "here")
    digests = [commit(here, seed) for seed in range(5)]
    for digest in digests:
        here.share(digest)
    pinned: set[str] = set()
    there = shared.store(tmp_path / "there", disk_bytes=3 * SIZE + 1_000_000, pinned=lambda: pinned)
    kept = there.lease(digests[0])
    for _ in range(5):
        there.lease(digests[1]).release()
    there.lease(digests[2]).release()
    assert sorted(there.digests()) == sorted(digests[:3])
    there.lease(digests[3]).release()
    assert sorted(there.digests()) == sorted([digests[0], digests[1], digests[3]]), "used once, nobody holds it"
    pinned |= {digests[1], digests[3]}
    with pytest.raises(StoreFull, match=r"store\.disk_bytes") as full:
        there.lease(digests[4])
    assert "pinned" in str(full.value)
    assert full.value.hint
    kept.release()
    there.lease(digests[4]).release()
    assert sorted(there.digests()) == sorted([digests[1], digests[3], digests[4]])


@pytest.mark.services
def test_what_only_this_machine_has_is_never_evicted(shared: Shared, tmp_path: Path) -> None:
    here = shared.store(tmp_path / "here", disk_bytes=2 * SIZE)
    first, second, third = (commit(here, seed) for seed in range(3))
    assert sorted(here.digests()) == sorted([first, second, third]), "a build is not held up by the limit"
    here.share(first)
    assert sorted(here.digests()) == sorted([second, third])
    here.lease(second).release()
    with pytest.raises(StoreFull):
        here.lease(first)


def test_an_artifact_larger_than_the_disk_may_hold_is_refused(shared: Shared, tmp_path: Path) -> None:
    digest = commit(here := shared.store(tmp_path / "here"))
    here.share(digest)
    shared.proxy.forget()
    with pytest.raises(StoreFull, match="takes 2"):
        shared.store(tmp_path / "there", disk_bytes=1_000_000).lease(digest)
    assert shared.proxy.received < 100_000, "and not fetched first"
    assert nothing_left(tmp_path / "there")


def test_deleting_takes_it_from_both_and_not_while_it_is_used(shared: Shared, tmp_path: Path) -> None:
    here = shared.store(tmp_path / "here")
    digest = commit(here)
    here.share(digest)
    with here.lease(digest):
        assert here.delete(digest) is False
        assert here.remote.has(digest)
    assert here.delete(digest) is True
    assert shared.s3.names(shared.bucket) == []
    assert here.digests() == []
    with pytest.raises(ArtifactNotFound):
        here.delete(digest)


@pytest.mark.parametrize(
    ("status", "kind"), [("403 Forbidden", StoreDenied), ("503 Slow Down", StoreUnreachable), ("400 Bad", StoreError)]
)
def test_secrets_are_in_no_error(
    shared: Shared, tmp_path: Path, status: str, kind: type[QuireError], caplog: pytest.LogCaptureFixture
) -> None:
    body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    shared.proxy.answer = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with pytest.raises(kind) as refused:
        shared.store(tmp_path / "there", timeout=0.5).lease("b3:" + "0" * 64)
    told = f"{refused.value} {refused.value.hint} {caplog.text} {shared.remote().objects.__dict__!r}"
    assert SECRET not in told
    assert KEY not in told
    assert refused.value.hint


def test_a_machine_without_credentials_is_told_so(
    shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", shared.proxy.endpoint)
    shared.proxy.answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(StoreDenied, match="no credentials found") as refused:
        shared.store(tmp_path / "there", timeout=0.5).has("b3:" + "0" * 64)
    assert "AWS_PROFILE" in refused.value.hint


def test_keys_come_from_the_profile(shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_PROFILE", "publisher")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[profile publisher]\nregion = eu-north-1\n")
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = OTHER\naws_secret_access_key = x\n"
        "[publisher]\naws_access_key_id = PROFILEKEY\naws_secret_access_key = y\naws_session_token = TOKEN\n"
    )
    assert shared.store(tmp_path / "there").has("b3:" + "0" * 64) is False
    assert b"Credential=PROFILEKEY/" in shared.proxy.heard
    assert b"/eu-north-1/s3/" in shared.proxy.heard
    assert b"x-amz-security-token: TOKEN" in shared.proxy.heard
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(InvalidSetting, match="'nobody'"):
        shared.remote()


@pytest.mark.parametrize("done", ["nothing", "here", "manifest there", "all"])
def test_a_removal_that_was_interrupted_is_finished(shared: Shared, tmp_path: Path, done: str) -> None:
    """Whatever of it a process had done when it died; another artifact stays."""
    store = shared.store(tmp_path / "here")
    digest, other = commit(store), commit(store, 1)
    store.share(digest)
    store.share(other)
    store.begin_removal(digest)
    if done != "nothing":
        store.drop_copy(digest)
    if done == "manifest there":
        shared.s3.delete(shared.bucket, shared.name(digest, "manifest.json"))
    if done == "all":
        store.remote.delete(digest)
    again = shared.store(tmp_path / "here")
    assert again.removals() == [digest]
    if done == "nothing":
        with again.lease(digest):
            assert not again.finish_removal(digest), "it is in use"
            assert again.removals() == [digest]
    assert again.finish_removal(digest)
    assert again.removals() == []
    assert shared.files(digest) == []
    assert again.digests() == again.remote.digests() == [other]


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3://user:secret@bucket",
        "ftp://host/path",
        "s3://bucket/../up",
        "file:///",
        "file://host/path",
        "s3://bucket?key=secret",
        "bucket",
        "s3://[",
        "",
    ],
)
def test_what_is_no_store_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        Objects(url)
    assert "secret" not in str(refused.value)


def test_a_bucket_that_is_not_there_is_said(shared: Shared, tmp_path: Path) -> None:
    store = TieredStore(
        DiskStore(tmp_path), Remote(Objects("s3://no-such-bucket-here", endpoint=shared.proxy.endpoint, timeout=1.0))
    )
    digest = commit(store)
    with pytest.raises(StoreError, match="the bucket is not there"):
        store.share(digest)
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == SECRET
