"""Between SQLite and a real PostgreSQL, into a real S3 server, and back; and killed on the way."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from services.postgres import Postgres
from services.s3 import KEY, S3, SECRET

from quire import open_project
from quire.errors import TargetNotEmpty

from .test_moving import answers, bring, export, lived  # noqa: F401  # a fixture

pytestmark = pytest.mark.services
IMPORT = """
import sys
from pathlib import Path
from quire.backup import import_project
from quire.backup.archives import open_source
print("ready", flush=True)
sys.stdin.readline()
with open_source(sys.argv[1]) as source:
    import_project(source, Path(sys.argv[2]))
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    server = S3()
    yield server
    server.stop()


def test_to_postgresql_and_s3_and_back(
    lived: Path,  # noqa: F811
    tmp_path: Path,
    postgres: Postgres,
    s3: S3,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = export(lived, str(tmp_path / "first.tar"))
    with monkeypatch.context() as elsewhere:
        database = postgres.new_database()
        elsewhere.setenv("QUIRE_REGISTRY_URL", database)
        elsewhere.setenv("QUIRE_STORE_URL", f"s3://{s3.bucket()}/moved")
        elsewhere.setenv("QUIRE_STORE_ENDPOINT", s3.endpoint)
        elsewhere.setenv("AWS_ACCESS_KEY_ID", KEY)
        elsewhere.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        made = bring(str(tmp_path / "first.tar"), tmp_path / "there")
        assert made.head == first.head
        assert not (tmp_path / "there" / ".quire" / "registry.db").exists()
        with pytest.raises(TargetNotEmpty):
            bring(str(tmp_path / "first.tar"), tmp_path / "again")
        bring(str(tmp_path / "first.tar"), tmp_path / "again", replace=True)
        second = export(tmp_path / "there", str(tmp_path / "second.tar"))
        assert second.head == first.head
        with open_project(tmp_path / "there") as there:
            (finding,) = there.registry.audit.verify().findings
            assert finding.subject == "kept head", "the log was replaced from another machine"
            there.registry.audit.anchor(who="t", why="it was I")
            assert there.registry.audit.verify().findings == ()
            said = answers(there)
            there.registry.retire("shipping", there.registry.live("shipping").version, actor="t", reason="goes on")
            assert there.registry.audit.verify().findings == ()
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes(), "there and back: the same"
    bring(str(tmp_path / "second.tar"), tmp_path / "home")
    with open_project(tmp_path / "home") as home, open_project(lived) as here:
        assert home.registry.audit.verify().findings == ()
        assert home.registry.versions() == here.registry.versions()
        assert answers(home) == said == answers(here)


def test_killed_in_the_middle_of_an_import(lived: Path, tmp_path: Path) -> None:  # noqa: F811
    export(lived, str(tmp_path / "shop.tar"))
    chance = random.Random(8)
    for _ in range(8):
        root = tmp_path / "there"
        child = subprocess.Popen(
            [sys.executable, "-c", IMPORT, str(tmp_path / "shop.tar"), str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == b"ready\n"
        child.stdin.write(b"\n")
        child.stdin.flush()
        time.sleep(chance.uniform(0, 0.25))
        child.send_signal(signal.SIGKILL)
        done = b"done" in child.communicate()[0]
        if done or _has_versions(root):
            with suppress(TargetNotEmpty):  # the next one removes what this one may have left
                bring(str(tmp_path / "shop.tar"), root)
            break
    else:
        bring(str(tmp_path / "shop.tar"), root)
    with open_project(root) as there, open_project(lived) as here:
        assert there.registry.versions() == here.registry.versions()
        assert there.registry.audit.verify().findings == ()
        there.store.sweep()
        assert sorted(path.name for path in root.glob(".quire-import-*")) == []
        assert sorted((root / ".quire" / "tmp").glob("*")) == []


def _has_versions(root: Path) -> bool:
    """Whether the import was through when it was killed: all of the registry is there, or nothing."""
    if not (root / "quire.toml").exists():
        return False
    with open_project(root) as project:
        assert len(project.registry.versions()) in (0, 4)
        return bool(project.registry.versions())


def test_exported_while_it_is_built(lived: Path, tmp_path: Path) -> None:  # noqa: F811
    with open_project(lived) as project:
        (lived / "knowledge" / "shipping.md").write_text("Parcels leave Norrvik at one. " * 9)
        builder = subprocess.Popen(
            [sys.executable, "-c", "import sys, quire; quire.open_project(sys.argv[1]).build()", str(lived)]
        )
        heads: set[str] = set()
        while builder.poll() is None:
            to = tmp_path / f"{len(heads)}.tar"
            heads.add(export(lived, str(to)).head)
            to.rename(tmp_path / "newest.tar")
        assert builder.returncode == 0
        assert len(heads) > 1
        assert project.registry.audit.verify().findings == ()
    bring(str(tmp_path / "newest.tar"), tmp_path / "there")
    with open_project(tmp_path / "there") as there:
        assert there.registry.audit.verify().findings == ()
