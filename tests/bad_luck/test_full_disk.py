"""A disk without room, or that may not be written, costs the new version and never the old one."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from quire import Project, open_project
from quire.errors import ModelFetchFailed, RegistryUnwritable, StoreFull, StoreUnwritable
from quire.model import DEFAULT_MODEL, find_model

from .conftest import SmallDisk
from .watching import FillAtTheEnd, MakeProject, at_rest

SOURCES = {"company": "Norrvik sells bolts. " * 20, "prices": "A bolt costs 3 pounds. " * 20}
PARENTS = {"prices": "company"}
DISK = 8 << 20


@pytest.fixture
def shop(small_disk: SmallDisk, tmp_path: Path, write_project: MakeProject) -> Path:
    """A built project whose state lies on a small disk of its own."""
    disk = small_disk(DISK)
    root: Path = write_project(tmp_path / "shop", SOURCES, parents=PARENTS, **{"store.path": str(disk / "state")})
    with open_project(root) as project:
        project.build()
    return root


def fill(root: Path, leave: int) -> Path:
    """Take all but `leave` bytes of the project's disk."""
    disk = state(root).parent
    filler = disk / "filler"
    size = (filler.stat().st_size if filler.exists() else 0) + free(disk) - leave
    with filler.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, max(size, 1))
    return filler


def free(disk: Path) -> int:
    info = os.statvfs(disk)
    return info.f_bavail * info.f_frsize


def state(root: Path) -> Path:
    with open_project(root) as project:
        return project.settings.state


def answer(project: Project) -> list[int]:
    running = project.ask("What?", module="prices", max_tokens=5, ignore_eos=True)
    running.text()
    return running.token_ids


def change(root: Path, size: int = 20) -> None:
    (root / "knowledge" / "company.md").write_text("Norrvik sells nuts. " * size)


def test_no_room_for_a_module_says_how_many_bytes(shop: Path) -> None:
    with open_project(shop) as project:
        said, live = answer(project), project.registry.live("prices").digest
        filler = fill(shop, 96 << 10)
        change(shop)
        with pytest.raises(StoreFull) as full:
            project.build()
        assert " bytes needed, " in str(full.value)
        assert " bytes free" in str(full.value)
        assert full.value.hint
        assert project.registry.live("prices").digest == live
        assert answer(project) == said
        assert at_rest(project)
        filler.unlink()
        assert len(project.build().compiled) == 2
        assert at_rest(project)


def test_a_full_disk_still_serves_a_new_process(shop: Path) -> None:
    with open_project(shop) as project:
        said = answer(project)
    fill(shop, 0)
    began = time.monotonic()
    with open_project(shop) as project:
        assert answer(project) == said
        assert project.plan()[0].action == "current"
    assert time.monotonic() - began < 5, "the end does not wait for room"


def test_however_little_is_left_a_build_succeeds_or_leaves_the_old_version(shop: Path) -> None:
    """Room for the KV and not for the manifest, for the manifest and not for the registry, and so on."""
    outcomes: dict[str, int] = {}
    for number, leave in enumerate(range(0, 680 << 10, 40 << 10)):
        (shop / "knowledge" / "prices.md").write_text(f"A bolt costs {number} pounds. " * 20)
        filler = fill(shop, leave)
        with open_project(shop) as project:
            said, live = answer(project), project.registry.live("prices").digest
            try:
                project.build()
                outcomes["built"] = outcomes.get("built", 0) + 1
            except (StoreFull, RegistryUnwritable) as error:
                outcomes[error.code] = outcomes.get(error.code, 0) + 1
                assert project.registry.live("prices").digest == live
                assert answer(project) == said
            filler.unlink()
            project.build()
            assert project.registry.live("prices").digest != live
            old = [r for r in project.registry.versions("prices") if r.state == "retired"]
            assert at_rest(project)
            for record in old:
                project.runtime.pool.close()
                project.registry.forget("prices", record.version, actor="tester", reason="room")
                project.store.delete(record.digest)
    assert set(outcomes) >= {"built", "store_full"}, outcomes


def test_the_registry_has_no_room_for_what_was_compiled(shop: Path) -> None:
    """The disk fills up between the last prefill step and the registration."""
    for leave in (0, 8 << 10, 16 << 10, 32 << 10):
        change(shop, 20 + leave // 4096)
        with open_project(shop) as project:
            said, live = answer(project), project.registry.live("company").digest
            watch = FillAtTheEnd(partial(fill, shop, leave))
            try:
                project.build(progress=watch)
            except (StoreFull, RegistryUnwritable):
                assert project.registry.live("company").digest == live
                assert answer(project) == said
                tmp = list((project.settings.state / "tmp").iterdir())
                assert tmp == []
            (state(shop).parent / "filler").unlink()
            project.build()
            assert project.registry.live("company").digest != live
            assert at_rest(project)


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)


def test_a_read_only_state_directory_is_named(shop: Path) -> None:
    place = state(shop).parent
    change(shop)
    with open_project(shop) as project:
        said = answer(project)
    with read_only(place), open_project(shop) as project:
        assert answer(project) == said, "what is live answers from a medium that cannot be written"
        with pytest.raises((StoreUnwritable, RegistryUnwritable)) as refused:
            project.build()
        assert refused.value.hint
        with pytest.raises(RegistryUnwritable):
            project.registry.rollback("prices", actor="tester", reason="to see")
    with open_project(shop) as project:
        project.build()
        assert at_rest(project)


def test_a_new_project_on_a_disk_without_room(
    small_disk: SmallDisk, tmp_path: Path, write_project: MakeProject
) -> None:
    disk = small_disk(256 << 10)
    root = write_project(tmp_path / "new", SOURCES, parents=PARENTS, **{"store.path": str(disk / "state")})
    with pytest.raises((StoreFull, RegistryUnwritable)), open_project(root) as project:
        project.build()
    (disk / "filler").write_bytes(bytes(free(disk)))
    with pytest.raises((StoreFull, RegistryUnwritable)), open_project(root) as project:
        project.build()


def test_a_model_directory_that_is_read_only_serves(
    small_disk: SmallDisk, tmp_path: Path, write_project: MakeProject, tiny_model_dir: Path
) -> None:
    disk = small_disk(4 << 20)
    for file in tiny_model_dir.iterdir():
        (disk / file.name).write_bytes(file.read_bytes())
    root = write_project(tmp_path / "shop", SOURCES, parents=PARENTS, model=disk)
    with read_only(disk), open_project(root) as project:
        project.build()
        assert answer(project)


def test_a_model_home_that_is_read_only_is_named(small_disk: SmallDisk) -> None:
    disk = small_disk(1 << 20)
    with read_only(disk), pytest.raises(ModelFetchFailed, match="cannot write to the model directory") as refused:
        find_model(DEFAULT_MODEL, disk)
    assert "model.home" in refused.value.hint
