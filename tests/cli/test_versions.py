"""`quire ls`, `show`, `rollback`, `pin`, `gc`: versions and what may become of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import MakeProject, Quire


@pytest.fixture
def root(quire: Quire, project: MakeProject) -> Path:
    """A project whose module `prices` has four versions, the newest live."""
    root = project({"prices": "A bolt costs 0 pounds."})
    for price in range(4):
        project({"prices": f"A bolt costs {price} pounds."})
        assert quire("build", "--project", root).code == 0
    return root


def versions(quire: Quire, root: Path) -> list[tuple[str, str]]:
    listed = quire("ls", "--all", "--json", "--project", root).json["modules"]
    return [(module["version"], module["state"]) for module in listed]


def test_versions_are_listed_shown_and_rolled_back(quire: Quire, root: Path) -> None:
    (live, state), (before, _), *_ = versions(quire, root)
    assert state == "live"
    shown = quire("show", "prices", "--json", "--project", root).json
    assert shown["version"] == live
    assert [s["path"] for s in shown["sources"]] == ["knowledge/prices.md"]
    assert {"model", "layout", "numerics", "files", "history", "verification"} <= set(shown)
    assert quire("show", f"prices@{before[:6]}", "--json", "--project", root).json["state"] == "retired"
    people = quire("show", "prices", "--project", root).out
    assert f"prices@{live}" in people
    assert "kv-00000.safetensors" in people
    done = quire("rollback", "prices", "--json", "--project", root, "--reason", "wrong price").json
    assert (done["before"]["version"], done["live"]["version"]) == (live, before)
    assert quire("show", "prices", "--json", "--project", root).json["history"][0]["reason"] == "wrong price"
    back = quire("rollback", "prices", "--to", live, "--json", "--project", root).json
    assert back["live"]["version"] == live


def test_a_version_is_published_by_hand(quire: Quire, root: Path) -> None:
    _, (before, _), *_ = versions(quire, root)
    assert quire("publish", f"prices@{before}", "--json", "--project", root).json["state"] == "live"
    assert dict(versions(quire, root))[before] == "live"
    assert quire("publish", "prices@ffff", "--project", root).code == 8


def test_a_module_is_taken_out_of_service_and_brought_back(quire: Quire, root: Path) -> None:
    (live, _), *_ = versions(quire, root)
    assert quire("retire", "prices", "--json", "--project", root).json["state"] == "retired"
    assert quire("ask", "What is a bolt?", "--module", "prices", "--project", root).code == 8
    assert quire("publish", f"prices@{live}", "--json", "--project", root).json["state"] == "live"


def test_garbage_collection_spares_the_live_and_the_pinned(quire: Quire, root: Path) -> None:
    (live, _), _, _, (oldest, _) = versions(quire, root)
    assert quire("pin", f"prices@{oldest}", "--json", "--project", root).json["pinned"] is True
    would = quire("gc", "--keep", 0, "--dry-run", "--json", "--project", root).json
    assert len(would["versions"]) == 2
    assert len(versions(quire, root)) == 4
    assert quire("gc", "--keep", 0, "--json", "--project", root).json["freed_bytes"] == would["freed_bytes"] > 0
    assert [version for version, _ in versions(quire, root)] == [live, oldest]
    quire("unpin", f"prices@{oldest}", "--project", root)
    quire("gc", "--keep", 0, "--project", root)
    assert versions(quire, root) == [(live, "live")]
    assert quire("rollback", "prices", "--project", root).code == 8


@pytest.mark.parametrize("command", ["show", "publish", "retire", "rollback", "pin", "verify"])
def test_an_unknown_module_is_an_error_with_a_suggestion(quire: Quire, root: Path, command: str) -> None:
    refused = quire(command, "price", "--json", "--project", root)
    assert refused.code == 8
    assert json.loads(refused.err)["error"]["hint"] == "did you mean prices?"


def test_a_wrong_option_is_json_too(quire: Quire, root: Path) -> None:
    refused = quire("gc", "--keep", "-1", "--json", "--project", root)
    assert refused.code == 2
    assert json.loads(refused.err)["error"]["code"] == "invalid_setting"
    assert quire("gc", "--no-such-option", "--json", "--project", root).code == 2


def test_module_names_are_completed(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from quire.cli.options import complete_module

    monkeypatch.chdir(root)
    assert complete_module("pr") == ["prices"]
    assert complete_module("x") == []
    monkeypatch.chdir(tmp_path)
    assert complete_module("") == []
