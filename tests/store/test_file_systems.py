"""Which file system a path is on, and what is said where it has no locks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from quire.store import FileSystem, file_system_of, warn_of_network
from quire.store.file_systems import is_elsewhere, kind_of

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /srv/shared rw,relatime shared:9 - nfs4 server:/export rw,vers=4.2
31 30 0:41 / /srv/shared/fast rw - xfs /dev/sdb1 rw
32 22 0:42 / /home/ann/my\040files rw - fuse.sshfs ann@host: rw
33 22 0:43 / /data rw - fuse.mergerfs /a:/b rw
34 22 0:44 / /win rw master:2 propagate_from:1 - cifs //host/share rw
35 22 0:45 / /vm rw - 9p hostshare rw
36 22 0:46 / /ceph rw - ceph mon:/ rw
37 22 0:47 / /lustre rw - lustre mgs@tcp:/fs rw
38 22 0:48 / /gs rw - fuse rw rw
"""
FAULT = """
#include <errno.h>
#include <cstdlib>
extern "C" int flock(int, int) { errno = atoi(getenv("FLOCK_ERRNO")); return -1; }
"""


@pytest.mark.parametrize(
    ("path", "kind", "is_network"),
    [
        ("/", "ext4", False),
        ("/srv/other", "ext4", False),
        ("/srv/sharedness", "ext4", False),
        ("/srv/shared", "nfs4", True),
        ("/srv/shared/project/.quire", "nfs4", True),
        ("/srv/shared/fast/x", "xfs", False),
        ("/home/ann/my files/project", "fuse.sshfs", True),
        ("/data/x", "fuse.mergerfs", False),
        ("/win", "cifs", True),
        ("/vm/x", "9p", True),
        ("/ceph/x", "ceph", True),
        ("/lustre/x", "lustre", True),
        ("/gs/x", "fuse", True),
    ],
)
def test_mounts_are_read_as_the_system_writes_them(tmp_path: Path, path: str, kind: str, *, is_network: bool) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.strip() + "\nnot a line\n")
    assert kind_of(path, mounts.read_text().splitlines()) == kind
    assert is_elsewhere(kind) == is_network


def test_a_network_file_system_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "project").mkdir()
    mounts = tmp_path / "mountinfo"
    root = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    mounts.write_text(f"{root}30 22 0:40 / {tmp_path}/project rw - nfs4 server:/export rw\n")
    warn_of_network({"the model is": tmp_path, "the project's state is": tmp_path / "project" / ".quire"}, mounts)
    [record] = caplog.records
    assert record.getMessage().startswith("the project's state is on a network file system")
    assert record.levelname == "WARNING"


def test_this_machines_own_mounts_are_read() -> None:
    assert file_system_of(Path("/proc/self")) == FileSystem("proc", is_network=False)
    assert file_system_of(Path("/proc/self/nothing/there")).kind == "proc"
    assert file_system_of(Path("/"), Path("/nothing")).kind == ""


@pytest.fixture(scope="module")
def no_locks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that lets `flock` fail in a process that it is loaded into, as the client of a network file system."""
    place = tmp_path_factory.mktemp("fault")
    (place / "fault.cpp").write_text(FAULT)
    try:
        subprocess.run(["g++", "-shared", "-fPIC", "-o", place / "fault.so", place / "fault.cpp"], check=True)
    except FileNotFoundError:
        pytest.skip("needs a compiler")
    return place / "fault.so"


def run_without_locks(library: Path, name: str, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LD_PRELOAD": str(library), "FLOCK_ERRNO": str(getattr(errno, name))}
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.parametrize("name", ["ENOLCK", "EBADF"])
def test_a_file_system_without_locks_has_a_named_error(no_locks: Path, tmp_path: Path, name: str) -> None:
    program = f"""
from pathlib import Path
from quire.errors import QuireError
from quire.registry.audit.anchor import Anchor
from quire.registry.audit.events import Head
from quire.store import DiskStore
place = Path({str(tmp_path)!r})
for call in (DiskStore(place).stage, Anchor(place / "head").read, lambda: Anchor(place / "head").move(Head(1, "x"))):
    try:
        call()
    except QuireError as error:
        print(error.code, error.message, error.hint)
"""
    (tmp_path / "head").touch()
    done = run_without_locks(no_locks, name, "-c", program)
    said = done.stdout.splitlines()
    codes = ["locks_unavailable", "registry_unreadable", "registry_unwritable"]
    assert [line.split()[0] for line in said] == codes, done.stderr
    assert all("does not lock it" in line and "local disk" in line for line in said)


@pytest.mark.slow
def test_a_build_on_a_file_system_without_locks_says_so(no_locks: Path, shop: Path) -> None:
    done = run_without_locks(no_locks, "ENOLCK", "-m", "quire", "build", "--project", str(shop))
    assert done.returncode == 7, done.stderr
    assert "does not lock it" in done.stderr
    assert "Traceback" not in done.stderr
