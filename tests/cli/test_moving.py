"""`quire push`, `pull`, `export`, `import`: artifacts and whole projects between machines."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .conftest import Quire


def test_what_is_pushed_here_is_pulled_there(
    quire: Quire, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = quire("push", "--project", shop)
    assert refused.code == 2
    assert "store.url" in refused.err
    monkeypatch.setenv("QUIRE_STORE_URL", f"file://{tmp_path}/objects")
    sent = quire("push", "--json", "--project", shop).json
    assert [row["module"] for row in sent["sent"]] == ["company", "prices", "shipping"]
    assert sent["bytes"] == sum(row["bytes"] for row in sent["sent"]) > 0
    assert quire("push", "--json", "--project", shop).json["bytes"] == 0
    there = tmp_path / "there"
    shutil.copytree(shop, there)
    shutil.rmtree(there / ".quire" / "artifacts")
    fetched = quire("pull", "prices", "--json", "--project", there).json["fetched"]
    assert {row["module"]: row["bytes"] > 0 for row in fetched} == {"company": True, "prices": True}
    assert "fetched 0 B" in quire("pull", "prices", "--project", there).out
    assert quire("fsck", "--json", "--project", there).code == 0
    assert quire("ask", "What?", "--module", "shipping", "--project", there).code == 0


def test_a_project_is_exported_and_imported(quire: Quire, shop: Path, tmp_path: Path) -> None:
    archive, there = tmp_path / "shop.tar", tmp_path / "there"
    done = quire("export", archive, "--json", "--project", shop).json
    assert done["versions"] == 3
    assert not done["left_out"]
    again = quire("export", archive, "--json", "--project", shop)
    assert again.code == 17
    assert "target_not_empty" in again.err
    assert quire("import", archive, "--json", "--project", there).json["audit_head"] == done["audit_head"]
    assert quire("audit", "verify", "--expect", done["audit_head"], "--project", there).code == 0
    assert quire("fsck", "--project", there).code == 0
    said = [
        quire("ask", "What does a bolt cost?", "--module", "prices", "--project", root).out for root in (shop, there)
    ]
    assert said[0] == said[1]
    refused = quire("import", archive, "--project", there)
    assert refused.code == 17
    assert "--replace" in refused.err
    archive.write_bytes(archive.read_bytes()[:-2000])
    assert quire("import", archive, "--project", tmp_path / "cut").code == 17
    assert not (tmp_path / "cut").exists()
