"""SIGKILL at any moment: what is visible is complete, and the rest is swept."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from blake3 import blake3

from quire.store import DiskStore

# Each artifact is four files whose joined content is what its name is the digest of.
WRITER = """
import itertools, sys
from pathlib import Path
from blake3 import blake3
from quire.store import DiskStore
store = DiskStore(Path(sys.argv[1]))
print("ready", flush=True)
for number in itertools.count():
    parts = [f"{sys.argv[2]} {number} {part}".encode() * 5000 for part in range(4)]
    staged = store.stage()
    for part, content in enumerate(parts):
        (staged / str(part)).write_bytes(content)
    name = "b3:" + blake3(b"".join(parts)).hexdigest()
    store.commit(staged, name)
    if number % 3 == 0:
        store.delete(name)
"""


def test_a_killed_writer_leaves_only_complete_artifacts(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    chance = random.Random(7)
    longest, kept, swept = 0.06, 0, 0  # seconds: what a disk takes is found by killing who writes
    for run in range(25):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(chance.uniform(0, longest))
            child.kill()
            assert child.wait() == -signal.SIGKILL
        for name in store.digests():
            content = b"".join(path.read_bytes() for path in sorted(store.locate(name).iterdir()))
            assert name == "b3:" + str(blake3(content).hexdigest())
        longest *= 0.8 if len(store.digests()) > kept else 1.4
        kept = len(store.digests())
        swept += len(store.sweep())
        assert list((tmp_path / "tmp").glob("*")) == []
    assert store.digests()
    assert swept
