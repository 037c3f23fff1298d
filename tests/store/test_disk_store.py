"""What every store promises, shown on the disk."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from blake3 import blake3

from quire.errors import ArtifactNotFound, InvalidSetting, StoreError, StoreFull, StoreUnwritable
from quire.store import DiskStore, open_disk


def digest(content: bytes) -> str:
    return "b3:" + str(blake3(content).hexdigest())


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "deep" / "store")


def put(store: DiskStore, content: bytes = b"kv") -> str:
    staged = store.stage()
    (staged / "kv").write_bytes(content)
    store.commit(staged, digest(content))
    return digest(content)


def test_committed_is_found(store: DiskStore) -> None:
    names = sorted(put(store, content) for content in (b"a", b"bb", b"ccc"))
    assert store.digests() == names
    assert (store.locate(digest(b"bb")) / "kv").read_bytes() == b"bb"
    assert store.size(digest(b"ccc")) == 3
    assert store.sweep() == []


def test_an_unmade_store_is_empty(store: DiskStore) -> None:
    assert store.digests() == []
    assert store.sweep() == []
    assert not store.root.exists()
    with pytest.raises(ArtifactNotFound):
        store.locate(digest(b""))


def test_staged_is_not_visible(store: DiskStore) -> None:
    staged = store.stage()
    (staged / "kv").write_bytes(b"half")
    assert store.digests() == []
    assert DiskStore(store.root).sweep() == []  # its owner lives
    store.discard(staged)
    assert not staged.exists()
    assert list((store.root / "tmp").iterdir()) == []


def test_the_first_of_two_equal_artifacts_stays(store: DiskStore) -> None:
    name = put(store)
    before = store.locate(name).stat().st_ino
    put(store)
    assert store.locate(name).stat().st_ino == before
    assert list((store.root / "tmp").iterdir()) == []


def test_only_staged_directories_are_committed(store: DiskStore, tmp_path: Path) -> None:
    staged = store.stage()
    with pytest.raises(StoreError, match="staged"):
        store.commit(tmp_path, digest(b""))
    with pytest.raises(StoreError, match="staged"):
        DiskStore(store.root).discard(staged)
    for wrong in ("", "b3:12", "../../etc", "b3:" + "A" * 64, "b3-" + "0" * 64, "b3:" + "0" * 64 + "\n"):
        with pytest.raises(StoreError, match="expected a digest"):
            store.commit(staged, wrong)
        for ask in (store.locate, store.size, store.delete, store.lease):
            with pytest.raises(ArtifactNotFound):
                ask(wrong)
    store.discard(staged)
    with pytest.raises(StoreError, match="staged"):
        store.commit(staged, digest(b""))


def test_deleted_is_gone(store: DiskStore) -> None:
    name = put(store)
    assert store.delete(name)
    assert store.digests() == []
    assert list((store.root / "tmp").iterdir()) == []
    with pytest.raises(ArtifactNotFound, match=name[:20]):
        store.delete(name)


def test_a_leased_artifact_is_not_deleted(store: DiskStore) -> None:
    name = put(store)
    with store.lease(name) as first, store.lease(name) as second:
        assert first.directory == second.directory == store.locate(name)
        assert not store.delete(name)
        first.release()
        first.release()
        assert not DiskStore(store.root).delete(name)
    assert store.delete(name)


LEASE = """
import sys
from pathlib import Path
from quire.store import DiskStore
lease = DiskStore(Path(sys.argv[1])).lease(sys.argv[2])
print("leased", flush=True)
sys.stdin.read()
"""


def test_a_lease_of_another_process_counts_until_it_dies(store: DiskStore) -> None:
    name = put(store)
    command = [sys.executable, "-c", LEASE, str(store.root), name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"leased\n"
        assert not store.delete(name)
        child.kill()
        child.wait()
    assert store.delete(name)


def test_leases_and_deletions_at_once(store: DiskStore) -> None:
    """Whoever holds a lease can read; nobody sees half an artifact."""
    failures: list[BaseException] = []
    name = put(store)

    def read() -> None:
        for _ in range(150):
            try:
                with store.lease(name) as lease:
                    assert (lease.directory / "kv").read_bytes() == b"kv"
            except ArtifactNotFound:
                continue
            except BaseException as error:
                failures.append(error)

    def replace() -> None:
        for _ in range(40):
            try:
                DiskStore(store.root).delete(name)
            except ArtifactNotFound:
                put(DiskStore(store.root))
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=work) for work in (read, read, replace)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list((store.root / "tmp").iterdir()) == []


def test_sweep_leaves_what_it_does_not_know(store: DiskStore) -> None:
    put(store)
    (store.root / "tmp" / "note.txt").write_text("keep")
    (store.root / "artifacts" / "README").write_text("keep")
    abandoned = store.root / "tmp" / "1-0123456789abcdef"
    abandoned.mkdir()
    (abandoned / "kv").write_bytes(b"half")
    assert store.sweep() == [abandoned]
    assert len(store.digests()) == 1
    assert (store.root / "tmp" / "note.txt").exists()


def test_no_descriptor_is_left_open(store: DiskStore) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        name = put(store)
        put(store)
        store.discard(store.stage())
        store.size(name)
        with store.lease(name):
            store.delete(name)
        store.delete(name)
        store.sweep()
    assert len(os.listdir("/proc/self/fd")) == before


@contextmanager
def mounted(directory: Path, options: str) -> Iterator[None]:
    directory.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", directory], capture_output=True)
    if done.returncode != 0:
        pytest.skip("mounting is not permitted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def test_a_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=1m,nr_inodes=8"):
        store = DiskStore(tmp_path / "small")
        staged: list[Path] = []
        with pytest.raises(StoreFull, match="bytes free"):
            staged.extend(store.stage() for _ in range(8))
        assert staged
        for path in staged:
            store.discard(path)
        put(store)


def test_a_read_only_disk(tmp_path: Path) -> None:
    root = tmp_path / "frozen"
    with mounted(root, "size=1m"):
        name = put(DiskStore(root))
        subprocess.run(["mount", "-o", "remount,ro", root], check=True)
        store = DiskStore(root)
        with store.lease(name) as lease:  # reading needs no permission to write
            assert (lease.directory / "kv").read_bytes() == b"kv"
        assert store.digests() == [name]
        with pytest.raises(StoreUnwritable):
            store.stage()
        with pytest.raises(StoreUnwritable):
            store.delete(name)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreError):
        DiskStore(tmp_path / "store").stage()


def test_urls(tmp_path: Path) -> None:
    for url in (
        tmp_path / "a b",
        str(tmp_path / "a b"),
        f"file://{tmp_path}/a%20b",
        f"file://localhost{tmp_path}/a b",
    ):
        store = open_disk(url)
        assert isinstance(store, DiskStore)
        assert store.root == tmp_path / "a b"
    assert isinstance(store := open_disk("~/quire"), DiskStore)
    assert store.root == Path.home() / "quire"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3://bucket/a",
        "://",
        "file://",
        "file:///",
        "file://host/a",
        "file:///a?b",
        "file://[/a",
        "a\0b",
        "file:///a%00",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidSetting) as refusal:
        open_disk(url)
    assert "file" in refusal.value.message + refusal.value.hint
