"""A project that was exported and imported is the same one: its answers, its digests, its history."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from quire import Project, open_project
from quire.access import LOCAL
from quire.artifact import canonical, digest_bytes
from quire.backup import Exported, Imported, export_project, import_project
from quire.backup.archives import open_source, open_target
from quire.backup.files import project_files
from quire.backup.index import INDEX, Entry
from quire.backup.object_archive import ObjectsTarget
from quire.compiler import build_lock, find_problems
from quire.errors import BackupInvalid, BuildBusy, ChecksumMismatch, InvalidSetting, QuireError, TargetNotEmpty
from quire.registry import actor
from quire.settings import load_settings
from quire.store.objects import Objects


def answers(project: Project) -> dict[str, list[int]]:
    said = {}
    for module in ("company", "prices", "shipping"):
        running = project.ask("What?", module=module, max_tokens=6, ignore_eos=True)
        running.text()
        said[module] = running.token_ids
    return said


def export(root: Path, to: str) -> Exported:
    with open_project(root) as project, open_target(to) as target:
        return export_project(project.settings, project.registry, project.store, target)


def bring(source: str, root: Path, *, replace: bool = False) -> Imported:
    with open_source(source) as opened:
        return import_project(opened, root, replace=replace)


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


@pytest.fixture(scope="module")
def lived(built_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with some history: a second version, a rollback, keys, use of a month, golden questions."""
    root = Path(shutil.copytree(built_shop, tmp_path_factory.mktemp("lived") / "shop"))
    (root / "golden").mkdir()
    (root / "golden" / "routes.yaml").write_text("- {question: What does a bolt cost?, module: prices}\n")
    with open_project(root) as project:
        (root / "knowledge" / "prices.md").write_text("A bolt costs 4 pounds. " * 9)
        project.build()
        project.registry.rollback("prices", actor="test", reason="too dear")
        project.access.keys.create(LOCAL, "a key", tenant="acme")
        project.registry.use.add({("2026-11", "acme"): 1234})
    return root


@pytest.fixture(scope="module")
def archive(lived: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("export") / "shop.tar"
    export(lived, str(to))
    return to


@pytest.mark.parametrize("kind", ["shop.tar", "shop", "file"])
def test_a_restored_project_is_the_same(lived: Path, tmp_path: Path, kind: str) -> None:
    to = f"file://{tmp_path}/objects" if kind == "file" else str(tmp_path / kind)
    done = export(lived, to)
    assert (done.versions, done.artifacts) == (4, 4)
    assert not done.left_out
    made = bring(to, tmp_path / "there")
    assert made.head == done.head
    with open_project(lived) as here, open_project(tmp_path / "there") as there:
        assert there.registry.audit.verify().findings == ()
        exported, imported = here.registry.audit.newest(limit=1)[0], there.registry.audit.newest(limit=1)[0]
        assert [r.kind for r in (exported, imported)] == ["project.export", "project.import"]
        assert exported.digest == imported.digest == done.digest
        assert (exported.who, imported.who, imported.details["head"]) == (actor(), actor(), done.head)
        assert done.head == f"{imported.sequence - 1}:{imported.previous}", "the log goes on where it was"
        assert there.registry.versions() == here.registry.versions()
        assert there.registry.history() == here.registry.history()
        assert there.registry.routes.in_force() == here.registry.routes.in_force()
        assert there.registry.generation() == here.registry.generation()
        assert there.store.digests() == here.store.digests()
        assert find_problems(there.registry, there.store, advance=lambda _: None) == []
        assert [plan.action for plan in there.plan()] == [plan.action for plan in here.plan()]
        assert answers(there) == answers(here)
        there.registry.retire("shipping", there.registry.live("shipping").version, actor="test", reason="goes on")
        assert there.registry.audit.verify().findings == ()
    assert (tmp_path / "there" / "golden" / "routes.yaml").is_file()
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_the_same_project_gives_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    bring(str(archive), tmp_path / "there")
    export(tmp_path / "there", str(tmp_path / "again.tar"))
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()
    with tarfile.open(archive) as opened:
        assert {(member.mtime, member.uid, member.uname) for member in opened} == {(0, 0, "")}
        names = opened.getnames()
    assert names[0] == INDEX
    assert "registry/api_keys.jsonl" in names


def test_no_secret_is_in_it(lived: Path, tmp_path: Path) -> None:
    with open_project(lived) as project:
        _, secret = project.access.keys.create(LOCAL, "another", tenant="acme")
    export(lived, str(tmp_path / "shop"))
    text = b"".join(path.read_bytes() for path in (tmp_path / "shop" / "registry").iterdir())
    assert secret.encode() not in text
    toml = lived / "quire.toml"
    before = toml.read_text()
    try:
        for section, url in (
            ("registry", "postgresql://quire:hunter2@db/quire"),
            ("registry", "postgresql://quire@db/quire?password=hunter2"),
            ("registry", "postgresql://quire:hunter/2@db/quire"),
            ("redis", "redis://db:6379/0?password=hunter2"),
        ):
            toml.write_text(f'[{section}]\nurl = "{url}"\n' + before)
            with pytest.raises(InvalidSetting) as refused:
                project_files(load_settings(toml, {}))
            assert "hunter" not in str(refused.value)
            assert f"QUIRE_{section.upper()}_URL" in refused.value.hint
    finally:
        toml.write_text(before)


def test_what_is_there_is_not_written_over_unless_told(archive: Path, lived: Path, shop: Path, tmp_path: Path) -> None:
    before = contents(shop)
    with pytest.raises(TargetNotEmpty, match="empty registry"):
        bring(str(archive), shop)
    assert contents(shop) == before
    with pytest.raises(TargetNotEmpty):
        export(shop, str(archive))
    bring(str(archive), shop, replace=True)
    with open_project(lived) as here, open_project(shop) as there:
        assert there.registry.versions() == here.registry.versions()
        assert there.registry.audit.verify().findings == ()
    (tmp_path / "other" / "knowledge").mkdir(parents=True)
    (tmp_path / "other" / "knowledge" / "prices.md").write_text("mine")
    with pytest.raises(TargetNotEmpty, match=r"prices\.md"):
        bring(str(archive), tmp_path / "other")
    assert contents(tmp_path / "other") == {"knowledge/prices.md": hashlib.sha256(b"mine").hexdigest()}


def test_nothing_is_imported_beside_a_build_or_a_collection(archive: Path, tmp_path: Path) -> None:
    """They would take what is brought, and nobody refers to yet, for orphans."""
    root = tmp_path / "there"
    with build_lock(root / ".quire"), pytest.raises(BuildBusy):
        bring(str(archive), root)
    assert not (root / "quire.toml").exists()
    bring(str(archive), root)


def test_an_export_that_fails_leaves_one_that_has_ended_there(tmp_path: Path) -> None:
    """Two to the same place at once: neither finds the other's index when it begins."""
    url = f"file://{tmp_path}/backup"
    entry = Entry("quire.toml", 3, digest_bytes(b"abc"))
    one, other = (ObjectsTarget(Objects(url)) for _ in range(2))
    for target in (one, other):
        target.add(entry, lambda: iter([b"abc"]))
    Objects(url).put(INDEX, b"{}")  # the other one's
    one.discard()
    assert Objects(url).read("quire.toml", 0, 3) == b"abc"


def test_a_damaged_artifact_is_not_exported(shop: Path, tmp_path: Path) -> None:
    victim = next((shop / ".quire" / "artifacts").rglob("kv-00000.safetensors"))
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes()[:-1] + b"!")
    for to in ("export.tar", "export"):
        with pytest.raises(ChecksumMismatch, match="kv-00000"):
            export(shop, str(tmp_path / to))
    assert list(tmp_path.iterdir()) == [shop]


Member = tuple[str, bytes, bytes]  # name, content, type of a tar member


def members(archive: Path) -> list[Member]:
    with tarfile.open(archive) as opened:
        return [(m.name, opened.extractfile(m).read(), tarfile.REGTYPE) for m in opened]  # type: ignore[union-attr]


def write(to: Path, wanted: list[Member]) -> None:
    with open(to, "wb") as file:
        for name, content, kind in wanted:
            header = tarfile.TarInfo(name)
            header.size, header.type = len(content), kind
            header.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            file.write(header.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512))
        file.write(bytes(1024))


PATHS = (
    "project/../../out",
    "project//etc/passwd",
    "/etc/passwd",
    "project/.git/config",
    "project/a\\b",
    "project/.quire/registry.db",
    "artifacts/b3-" + "0" * 64 + "/../x",
    "registry/../x.jsonl",
)


def hostile(good: list[Member]) -> Iterator[tuple[str, list[Member]]]:
    """Archives that somebody made to do harm, or that came to harm."""
    index = json.loads(good[0][1])

    def with_index(change: dict[str, object], rest: list[Member]) -> list[Member]:
        return [(INDEX, canonical({**index, **change}), tarfile.REGTYPE), *rest]

    rest = good[1:]
    entries = index["entries"]
    for path in PATHS:
        yield f"path {path}", with_index({"entries": [[path, *entries[0][1:]], *entries[1:]]}, rest)
    yield "a link", [good[0], (rest[0][0], b"", tarfile.SYMTYPE), *rest[1:]]
    yield "a hard link", [good[0], (rest[0][0], b"", tarfile.LNKTYPE), *rest[1:]]
    yield "a device", [good[0], (rest[0][0], b"", tarfile.CHRTYPE), *rest[1:]]
    yield "another name", [good[0], ("../out", rest[0][1], tarfile.REGTYPE), *rest[1:]]
    yield "a missing member", [good[0], *rest[:-1]]
    yield "swapped members", [good[0], rest[1], rest[0], *rest[2:]]
    for number in (0, len(rest) // 2, len(rest) - 1):
        name, content, kind = rest[number]
        changed = content[:-1] + bytes([content[-1] ^ 1]) if content else b"!"
        yield f"other bytes in {name}", [good[0], *rest[:number], (name, changed, kind), *rest[number + 1 :]]
    huge = [[name, 2**52 if name == entries[0][0] else size, digest] for name, size, digest in entries]
    yield "a huge member", with_index({"entries": huge}, rest)
    yield "another revision", with_index({"revision": "r9999"}, rest)
    yield "another head", with_index({"head": f"3:b3:{'0' * 64}"}, rest)
    yield "a later head", with_index({"head": f"999:{index['head'].partition(':')[2]}"}, rest)
    yield "the same entry twice", with_index({"entries": [entries[0], *entries]}, rest)
    yield (
        "no registry",
        with_index(
            {"entries": [e for e in entries if not e[0].startswith("registry")]},
            [m for m in rest if not m[0].startswith("registry")],
        ),
    )
    last = entries[-1][0].split("/")[1]
    yield (
        "no artifact",
        with_index({"entries": [e for e in entries if last not in e[0]]}, [m for m in rest if last not in m[0]]),
    )
    yield "no index", rest
    yield "nothing", []
    log = "registry/audit_log.jsonl"
    rows = next(n for n, m in enumerate(rest) if m[0] == log)
    lines = rest[rows][1].splitlines(keepends=True)
    for what, table in (("a record cut off", lines[:-1]), ("records swapped", [lines[1], lines[0], *lines[2:]]),
                        ("a record changed", [lines[0].replace(b'"why":"', b'"why":"x'), *lines[1:]])):  # fmt: skip
        content = b"".join(table)
        yield (
            what,
            with_index(
                {
                    "entries": [
                        [n, len(content), digest_bytes(content)] if n == log else [n, s, d] for n, s, d in entries
                    ]
                },
                [*rest[:rows], (log, content, tarfile.REGTYPE), *rest[rows + 1 :]],
            ),
        )


def test_hostile_archives_are_refused_with_nothing_changed(archive: Path, tmp_path: Path) -> None:
    good = members(archive)
    write(tmp_path / "good.tar", good)
    count = 0
    for what, wanted in hostile(good):
        write(tmp_path / "bad.tar", wanted)
        with pytest.raises(QuireError) as refused:
            bring(str(tmp_path / "bad.tar"), tmp_path / "there")
        assert refused.value.hint, what
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar", "good.tar"], what
        count += 1
    assert count > 25
    bring(str(tmp_path / "good.tar"), tmp_path / "there")


def test_an_archive_that_is_cut_anywhere_is_refused(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    for at in (0, 1, 511, 512, 700, len(data) // 3, len(data) // 2, len(data) - 4096):
        (tmp_path / "cut.tar").write_bytes(data[:at])
        with pytest.raises(BackupInvalid):
            bring(str(tmp_path / "cut.tar"), tmp_path / "there")
        assert [path.name for path in tmp_path.iterdir()] == ["cut.tar"]


def test_links_in_a_directory_are_not_followed(lived: Path, tmp_path: Path) -> None:
    export(lived, str(tmp_path / "shop"))
    victim = tmp_path / "shop" / "project" / "quire.toml"
    victim.rename(tmp_path / "secret")
    victim.symlink_to(tmp_path / "secret")
    with pytest.raises(BackupInvalid, match=r"quire\.toml"):
        bring(str(tmp_path / "shop"), tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_an_export_is_one_record_that_says_how_it_ended(shop: Path, tmp_path: Path) -> None:
    def records(root: Path) -> list[dict[str, object]]:
        with open_project(root) as project:
            found = [r for r in project.registry.audit.each() if r.kind.startswith("project.")]
            return [{"what": r.what, "why": r.why, **r.details} for r in found]

    good, bad = str(tmp_path / "good.tar"), str(tmp_path / "bad.tar")
    export(shop, good)
    (done,) = records(shop)
    assert (done["what"], done["outcome"]) == (good, "complete")
    victim = next((shop / ".quire" / "artifacts").rglob("kv-00000.safetensors"))
    whole = victim.read_bytes()
    victim.chmod(0o644)
    victim.write_bytes(whole[:-1] + b"!")
    with pytest.raises(ChecksumMismatch):
        export(shop, bad)
    (_, failed) = records(shop)
    assert (failed["what"], failed["outcome"]) == (bad, "failed")
    assert "kv-00000" in str(failed["why"])
    assert failed["bytes"] < done["bytes"]  # type: ignore[operator]
    bring(good, tmp_path / "there")
    (brought,) = records(tmp_path / "there")
    assert (brought["what"], brought["outcome"]) == (good, "complete")
