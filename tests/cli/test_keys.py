from __future__ import annotations

from pathlib import Path

import pytest

from quire.errors import Unauthenticated
from quire.project import open_project

from .conftest import MakeProject, Quire


@pytest.fixture
def root(project: MakeProject) -> Path:
    return project({"prices": "A bolt costs 3 pounds."}, **{"project.tenant": "acme"})


def test_the_life_of_a_key(quire: Quire, root: Path) -> None:
    made = quire(
        "keys", "create", "Ann's laptop", "--user", "ann", "--workspace", "legal", "--workspace", "billing",
        "--role", "reader", "--days", 30, "--json", "--project", root,
    ).json  # fmt: skip
    key = made.pop("key")
    assert (made["tenant"], made["user"], made["workspaces"]) == ("acme", "ann", ["billing", "legal"])
    with open_project(root) as opened:
        assert opened.access.keys.authenticate(key).user == "ann"
    shown = quire("keys", "show", made["id"], "--json", "--project", root).json
    assert shown["last_used_at"] is not None
    assert {**shown, "last_used_at": None} == made
    assert quire("keys", "ls", "--json", "--project", root).json == {"keys": [shown]}
    assert quire("keys", "ls", "--tenant", "globex", "--json", "--project", root).json == {"keys": []}
    revoked = quire("keys", "revoke", made["id"], "--reason", "lost on a train", "--json", "--project", root).json
    assert revoked["state"] == "revoked"
    with open_project(root) as opened, pytest.raises(Unauthenticated, match="is revoked"):
        opened.access.keys.authenticate(key)
    records = quire("audit", "--kind", "key", "--json", "--project", root).json["records"]
    assert [(r["kind"], r["tenant"], r["what"], r["why"]) for r in records] == [
        ("key.revoke", "acme", f"key {made['id']}", "lost on a train"),
        ("key.create", "acme", f"key {made['id']}", "Ann's laptop: reader for acme/ann in billing, legal"),
    ]
    assert key not in quire("audit", "export", "--project", root).out


def test_a_key_is_shown_to_people_once(quire: Quire, root: Path) -> None:
    made = quire("keys", "create", "CI", "--project", root)
    key = made.out.splitlines()[-1]
    assert key.startswith("quire_")
    assert "cannot be shown again" in made.err
    assert "set access.keys = true" in made.err
    listed = quire("keys", "ls", "--project", root).out
    assert key.split("_")[1] in listed
    assert key.split("_", 2)[2] not in listed


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["create", "x", "--role", "king"], 10),
        (["create", "x", "--tenant", "No"], 10),
        (["create", ""], 10),
        (["show", "a" * 12], 12),
        (["revoke", "a" * 12], 12),
    ],
)
def test_what_cannot_be_done_says_what_to_do(quire: Quire, root: Path, arguments: list[str], code: int) -> None:
    refused = quire("keys", *arguments, "--project", root)
    assert refused.code == code
    assert "hint:" in refused.err
