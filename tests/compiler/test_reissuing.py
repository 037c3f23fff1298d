"""A version that differs in nothing its KV depends on gets the KV that is there, bit for bit what compiling gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from quire import Project, open_project
from quire.compiler import BuildReport

ACL = 'acl = "public"'
OWN = 'acl = "tenant:local"'
Edit = Callable[..., None]


@pytest.fixture
def edit(shop: Path) -> Edit:
    def replace(old: str, new: str, times: int = 1) -> None:
        file = shop / "quire.toml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, times))

    return replace


def names(report: BuildReport) -> tuple[list[str], list[str]]:
    """What was compiled, and what was reissued."""
    return [ref.module_id for ref in report.compiled], [ref.module_id for ref in report.reissued]


def files(project: Project, name: str) -> dict[str, int]:
    """Inodes of the files with KV and tokens of a live module."""
    place = project.store.locate(project.registry.live(name).digest)
    return {path.name: path.stat().st_ino for path in place.glob("*.safetensors")}


def built_anew(shop: Path) -> dict[str, str]:
    """Digests by module that the project as it stands has when everything is compiled."""
    fresh = shutil.copytree(shop, shop.parent / "fresh", ignore=shutil.ignore_patterns(".quire"))
    with open_project(fresh) as project:
        project.build()
        return {record.module_id: record.digest for record in project.registry.all_live()}


def digests(project: Project) -> dict[str, str]:
    return {record.module_id: record.digest for record in project.registry.all_live()}


def test_another_acl_is_another_manifest_over_the_same_files(shop: Path, edit: Edit) -> None:
    edit(f'["knowledge/prices.md"]\n{ACL}', f'["knowledge/prices.md"]\n{OWN}')
    with open_project(shop) as project:
        before, old = files(project, "prices"), project.registry.live("prices")
        assert [plan.action for plan in project.plan()] == ["current", "reissue", "current"]
        report = project.build()
        assert names(report) == ([], ["prices"])
        assert project._model is None, "no prefill, hence no model"
        new = project.registry.live("prices")
        assert (str(new.scope), str(old.scope), new.bytes) == ("tenant:local", "public", old.bytes)
        assert files(project, "prices") == before, "the files are linked, not copied"
        assert digests(project) == built_anew(shop)
        entry = next(e for e in project.registry.history("prices") if e.action == "register")
        assert entry.reason == f"acl changed; KV of {old.version}"


def test_a_parent_with_other_readers_takes_its_children_along(shop: Path, edit: Edit) -> None:
    edit(ACL, OWN, times=3)
    with open_project(shop) as project:
        assert names(project.build()) == ([], ["company", "prices", "shipping"])
        for name in ("prices", "shipping"):
            root, leaf = project.registry.chain(project.registry.live(name))
            assert leaf.parent == root.ref
        assert digests(project) == built_anew(shop)
        assert project.ask("What does a bolt cost?", module="prices", max_tokens=4).text()


def test_what_stands_behind_the_static_part_needs_no_prefill(shop: Path, edit: Edit) -> None:
    with open_project(shop) as project:
        definition = {**project.layout.definition(), "version": "2", "answer": project.layout.answer + "So: "}
    (shop / "layout.toml").write_text("\n".join(f"{k} = {json.dumps(v)}" for k, v in definition.items()))
    edit("[modules", '[layout]\nfile = "layout.toml"\n[modules')
    with open_project(shop) as project:
        assert names(project.build()) == ([], ["company", "prices", "shipping"])
        assert digests(project) == built_anew(shop)


def test_a_title_is_compiled_where_the_layout_says_it(shop: Path, edit: Edit) -> None:
    edit('[modules."company"]', '[modules."company"]\ntitle = "The company"')
    with open_project(shop) as project:
        assert names(project.build()) == ([], ["company", "prices", "shipping"]), "a root does not say its title"
    edit('[modules."prices"]', '[modules."prices"]\ntitle = "The prices"')
    with open_project(shop) as project:
        assert names(project.build()) == (["prices"], [])


def test_a_changed_text_is_computed_whoever_may_read_it(shop: Path, edit: Edit) -> None:
    edit(ACL, OWN, times=3)
    (shop / "knowledge" / "company.md").write_text("Norrvik sells nuts.")
    with open_project(shop) as project:
        assert names(project.build()) == (["company", "prices", "shipping"], [])


def test_kv_of_a_revoked_version_is_not_used(shop: Path, edit: Edit) -> None:
    with open_project(shop) as project:
        project.registry.revoke("prices", project.registry.live("prices").version, actor="test", reason="wrong bytes")
        edit(f'["knowledge/prices.md"]\n{ACL}', f'["knowledge/prices.md"]\n{OWN}')
    with open_project(shop) as project:
        assert names(project.build()) == (["prices"], [])


def test_damaged_kv_is_computed_again_with_what_stands_on_it(shop: Path, edit: Edit) -> None:
    with open_project(shop) as project:
        file = project.store.locate(project.registry.live("company").digest) / "kv-00000.safetensors"
    data = bytearray(file.read_bytes())
    data[-4096] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    edit(ACL, OWN, times=3)
    with open_project(shop) as project:
        assert [plan.action for plan in project.plan()] == ["reissue"] * 3
        assert names(project.build()) == (["company", "prices", "shipping"], [])
        assert digests(project) == built_anew(shop)
