"""`quire audit`: reading the log, checking it, taking it elsewhere."""

from __future__ import annotations

import json
import resource
import signal
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from quire.errors import InvalidSetting
from quire.registry import moment_of

from .conftest import MakeProject, Quire


@pytest.fixture
def root(quire: Quire, project: MakeProject) -> Path:
    """A project that was built once, and whose module was pinned: four records."""
    root = project({"prices": "A bolt costs 3 pounds."})
    assert quire("build", "--project", root).code == 0
    assert quire("pin", "prices", "--reason", "audited [quarter]", "--project", root).code == 0
    return root


def test_records_are_listed_and_chosen(quire: Quire, root: Path) -> None:
    listed = quire("audit", "--json", "--project", root).json["records"]
    assert [(r["sequence"], r["kind"]) for r in listed] == [
        (4, "module.pin"),
        (3, "route.change"),
        (2, "module.publish"),
        (1, "module.register"),
    ]
    assert quire("audit", "ls", "--json", "--project", root).json["records"] == listed
    for chosen in (["--kind", "module.pin"], ["--limit", "1"], ["-n", "1", "--module", "prices", "--since", "1h"]):
        assert quire("audit", *chosen, "--json", "--project", root).json["records"] == listed[:1]
    for nothing in (["--who", "nobody"], ["--since", "2999-01-01"], ["--until", "7d"], ["--kind", "key"]):
        assert quire("audit", *nothing, "--json", "--project", root).json["records"] == []
    people = quire("audit", "--project", root).out
    assert "audited [quarter]" in people
    assert listed[0]["what"] in people
    assert quire("audit", "--kind", "nothing.such", "--project", root).code == 2
    assert quire("audit", "--since", "yesterday", "--project", root).code == 2


def test_a_changed_log_is_told_and_fails(quire: Quire, root: Path) -> None:
    sound = quire("audit", "verify", "--json", "--project", root)
    assert (sound.code, sound.json["records"], sound.json["findings"]) == (0, 4, [])
    head = sound.json["head"]
    assert head in quire("audit", "verify", "--project", root).out
    assert quire("audit", "verify", "--expect", head, "--project", root).code == 0
    assert quire("audit", "verify", "--expect", "4", "--project", root).code == 2
    with closing(sqlite3.connect(root / ".quire" / "registry.db")) as connection, connection:
        connection.execute("DROP TRIGGER audit_log_no_delete")
        connection.execute("DELETE FROM audit_log WHERE sequence = 4")
    broken = quire("audit", "verify", "--expect", head, "--json", "--project", root)
    assert broken.code == 8
    assert [f["subject"] for f in broken.json["findings"]] == ["expected head", "kept head"]
    assert json.loads(broken.err)["error"]["code"] == "audit_broken"
    assert "ends with record 3" in quire("audit", "verify", "--project", root).out
    assert quire("audit", "anchor", "--reason", "restored", "--project", root).code == 0
    assert quire("audit", "verify", "--project", root).code == 0
    assert quire("audit", "verify", "--expect", head, "--project", root).code == 8


def test_an_export_is_json_lines_oldest_first(quire: Quire, root: Path, tmp_path: Path) -> None:
    out = quire("audit", "export", "--project", root).out
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["sequence"] for line in lines] == [1, 2, 3, 4]
    assert all(line["previous"] == before["hash"] for before, line in pairwise(lines))
    assert quire("audit", "export", "--json", "--project", root).json == lines
    assert quire("audit", "export", "--json", "--kind", "key", "--project", root).json == []
    to_a_file = quire("audit", "export", "--out", tmp_path / "log.jsonl", "--project", root, "--json")
    assert to_a_file.json == {"written": str(tmp_path / "log.jsonl")}
    assert json.loads((tmp_path / "log.jsonl").read_text(encoding="utf-8")) == lines
    assert quire("audit", "export", "--out", tmp_path / "log.jsonl", "--project", root).code == 0
    assert (tmp_path / "log.jsonl").read_text(encoding="utf-8") == out
    assert quire("audit", "export", "--out", tmp_path / "no" / "such", "--project", root).code == 7
    assert len(quire("audit", "export", "--kind", "module.pin", "--project", root).out.splitlines()) == 1


def test_an_export_that_comes_to_nothing_leaves_the_one_before(quire: Quire, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "log.jsonl"
    assert quire("audit", "export", "--out", out, "--project", root).code == 0
    before = out.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that the write fails, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limit[1]))
    try:
        failed = quire("audit", "export", "--out", out, "--project", root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    assert failed.code == 7
    assert out.read_bytes() == before
    assert list(tmp_path.glob("log*")) == [out]


def test_times_are_read_as_people_write_them() -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert moment_of("90m", now) == datetime(2026, 11, 24, 10, 30, tzinfo=UTC)
    assert moment_of("2w", now) == datetime(2026, 11, 10, 12, tzinfo=UTC)
    assert moment_of("2026-11-24") == datetime(2026, 11, 24, tzinfo=UTC)
    assert moment_of("2026-11-24T18:00+02:00") == datetime(2026, 11, 24, 16, tzinfo=UTC)
    beyond = ("999999w", "9999-12-31T23:59-14:00", "0001-01-01T00:00+14:00")  # there is no such time in UTC
    for text in ("", "7", "7y", "9999999w", "2026-13-01", *beyond):
        with pytest.raises(InvalidSetting, match="expected a time"):
            moment_of(text)
