"""SIGKILL in the middle of a transfer: nothing half of it is ever seen, and the next one makes up for it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quire.artifact import open_artifact
from quire.errors import ArtifactNotFound
from quire.store import DiskStore

from .conftest import Shared, commit, content, nothing_left

pytestmark = pytest.mark.services
PROGRAM = """
import sys
from pathlib import Path
from quire.store.disk import DiskStore
from quire.store.objects import Objects
from quire.store.remote import Remote
from quire.store.tiers import TieredStore
url, endpoint, root, limit, verb, *digests = sys.argv[1:]
remote = Remote(Objects(url, endpoint=endpoint, timeout=10.0))
store = TieredStore(DiskStore(Path(root)), remote, disk_bytes=int(limit))
print("ready", flush=True)
sys.stdin.readline()
for digest in digests:
    if verb == "share":
        store.share(digest)
    else:
        with store.lease(digest) as lease:
            assert (lease.directory / "manifest.json").exists()
print("done", flush=True)
"""


class Child:
    """A process that shares or leases artifacts when it is told to."""

    def __init__(self, shared: Shared, root: Path, verb: str, *digests: str, limit: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, shared.url, shared.proxy.endpoint, str(root), str(limit), verb, *digests],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    def start(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()

    def finish(self) -> None:
        assert self._read() == "done"
        self._process.communicate()
        assert self._process.returncode == 0

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def test_killed_in_the_middle_of_an_upload(shared: Shared, tmp_path: Path) -> None:
    here = shared.store(tmp_path / "here")
    digest = commit(here)
    chance = random.Random(5)
    shared.proxy.bytes_per_second = 60_000_000
    for _ in range(4):
        child = Child(shared, tmp_path / "here", "share", digest)
        child.start()
        time.sleep(chance.uniform(0.05, 0.35))
        child.kill()
        there = shared.store(tmp_path / "there")
        if "manifest.json" not in shared.files(digest):
            try:
                there.lease(digest).release()
            except ArtifactNotFound:
                assert nothing_left(tmp_path / "there")
                assert here.remote.digests() == []
            else:
                assert "manifest.json" in shared.files(digest), "the server finished what it had"
        assert here.locate(digest).is_dir()
    shared.proxy.bytes_per_second = 0
    here.share(digest)
    assert here.remote.problem(digest) == ""
    assert content(shared.store(tmp_path / "then").lease(digest).directory) == content(here.locate(digest))


def test_killed_in_the_middle_of_a_download(shared: Shared, tmp_path: Path) -> None:
    here = shared.store(tmp_path / "here")
    digest = commit(here)
    here.share(digest)
    there = shared.store(tmp_path / "there")
    chance = random.Random(6)
    shared.proxy.bytes_per_second = 30_000_000
    for _ in range(4):
        child = Child(shared, tmp_path / "there", "lease", digest)
        child.start()
        time.sleep(chance.uniform(0.02, 0.25))
        child.kill()
        if there.digests():  # it was faster
            there.drop_copy(digest)
        there.sweep()
        left = [p for place in ("artifacts", "tmp") for p in (tmp_path / "there" / place).glob("*")]
        assert left == []
    shared.proxy.bytes_per_second = 0
    assert content(there.lease(digest).directory) == content(here.locate(digest))


def test_gateways_on_one_disk_restore_at_the_same_time(shared: Shared, tmp_path: Path) -> None:
    here = shared.store(tmp_path / "here")
    digests = [commit(here, seed) for seed in range(4)]
    for digest in digests:
        here.share(digest)
    size = here.size(digests[0])
    shared.proxy.forget()
    children = [Child(shared, tmp_path / "there", "lease", digests[0]) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.finish()
    assert shared.proxy.received < 1.1 * size, "one of them fetched it"
    # Room for two: they make room for one another, never more than that, and never take what another leases.
    limit = 3 * size
    children = [
        Child(shared, tmp_path / "there", "lease", *random.Random(n).choices(digests, k=6), limit=limit)
        for n in range(2)
    ]
    for child in children:
        child.start()
    deadline = time.monotonic() + 60
    for child in children:
        child.finish()
        assert time.monotonic() < deadline
    there = DiskStore(tmp_path / "there")
    assert sum(there.size(digest) for digest in there.digests()) <= limit
    for digest in there.digests():
        with open_artifact(there.locate(digest), expect_digest=digest) as artifact:
            artifact.verify()
    assert os.listdir(tmp_path / "there" / "tmp") == []
    assert os.listdir(tmp_path / "there" / "arriving") == []
