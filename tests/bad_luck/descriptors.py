"""What runs in a process of its own, with few descriptors or none: each function reports what came of it."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from quire import open_project
from quire.access import LOCAL, Policy
from quire.artifact import digest_bytes, digest_file, open_artifact
from quire.compiler import find_problems, remove_broken
from quire.errors import QuireError
from quire.golden import read_file
from quire.model.fingerprint import model_fingerprint, tokenizer_fingerprint
from quire.pool import Pool
from quire.project import Project
from quire.registry import Registry
from quire.settings import load_settings
from quire.sources import collect
from quire.store.disk import DiskStore
from quire.store.objects import Objects
from quire.store.remote import Remote
from quire.store.tiers import TieredStore

LIMIT = 256
MODULES = ("prices", "shipping")


@contextmanager
def no_descriptors(spare: int = 0) -> Iterator[None]:
    """All but `spare` of this process's descriptors are in use."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    held: list[int] = []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for _ in range(spare):
            os.close(held.pop())
    try:
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)


@contextmanager
def no_mappings() -> Iterator[None]:
    """This process has as many mappings as the system allows."""
    held: list[mmap.mmap] = []
    try:
        while True:  # neighbours of different rights are not merged
            rights = mmap.PROT_READ if len(held) % 2 else mmap.PROT_READ | mmap.PROT_WRITE
            held.append(mmap.mmap(-1, mmap.PAGESIZE, prot=rights, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    except OSError:
        for _ in range(8):  # for what Python needs itself
            held.pop().close()
    yield
    held.clear()


def outcome(act: Callable[[], object]) -> str:
    """The code of the error, or ``done``."""
    try:
        act()
    except QuireError as error:
        return error.code
    return "done"


def open_everything(root: Path, report: Connection) -> None:
    """Reports what became of each thing that reads files, before, while and after there are no descriptors."""
    with open_project(root) as project:
        project.registry.all_live()
        live = project.registry.live("prices")
        place, settings, store = project.store.locate(live.digest), project.settings, DiskStore(project.settings.state)
        heads = project.settings.state
    model = Path(settings.model_name)
    objects = Objects(f"file://{root}/objects", timeout=0.5)
    objects.put("a/b", b"hello")
    (root / "layout.toml").write_text('id = "x"')
    (root / "golden.yaml").write_text("- question: What?\n  contains: bolt")

    def ask_registry() -> None:
        with Registry.open(settings.registry_place, heads=heads) as registry:
            registry.all_live()

    def check_registry() -> None:
        found.extend(opened.integrity(lambda manifest: digest_bytes(manifest.encode())))

    acts: dict[str, Callable[[], object]] = {
        "artifact": lambda: open_artifact(place, expect_digest=live.digest).close(),
        "digest of a file": lambda: digest_file(place / "manifest.json"),
        "lease": lambda: store.lease(live.digest).release(),
        "store": store.check,
        "list of artifacts": store.digests,
        "source": lambda: collect(root, ["knowledge/prices.md"]),
        "directory of sources": lambda: collect(root, ["knowledge"]),
        "golden file": lambda: read_file(root / "golden.yaml"),
        "settings": lambda: load_settings(root / "quire.toml", os.environ),
        "model": lambda: model_fingerprint(model, "float32"),
        "tokenizer": lambda: tokenizer_fingerprint(model),
        "registry": ask_registry,
        "check of the registry": check_registry,
        "object": lambda: objects.read("a/b", 0, 5),
        "list of objects": lambda: objects.sizes("a"),
        "object store": lambda: Objects(f"file://{root}/objects"),
    }
    found: list[object] = []
    with Registry.open(settings.registry_place, heads=heads) as opened:
        before = {name: outcome(act) for name, act in acts.items()}
        with no_descriptors():
            without = {name: outcome(act) for name, act in acts.items()}
        after = {name: outcome(act) for name, act in acts.items()}
    report.send((before, without, after, found))


def check_without(root: Path, report: Connection) -> None:
    """Reports whether damage is found in a sound project while there are no descriptors."""
    with open_project(root) as project:
        project.registry.all_live()
        problems: list[str] = []

        def check() -> None:
            found = find_problems(project.registry, project.store, advance=lambda _: None)
            problems.extend(problem.kind for problem in found)

        with no_descriptors(spare=1):
            became = outcome(check)
    report.send((became, problems))


def open_unmappable(root: Path, report: Connection) -> None:
    """Reports what becomes of an artifact that cannot be mapped, and afterwards."""
    with open_project(root) as project:
        live = project.registry.live("prices")
        place = project.store.locate(live.digest)

    def act() -> None:
        open_artifact(place, expect_digest=live.digest).close()

    act()
    with no_mappings():
        kept = [outcome(act)]
        held: list[mmap.mmap] = []
        for _ in range(64):
            try:
                held.append(mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ if len(held) % 2 else mmap.PROT_WRITE))
            except OSError:
                break
        kept.append(outcome(act))
        held.clear()
    report.send((kept, outcome(act)))


def drop_rights() -> None:
    """From now on this process has what the rights of files allow, even if it is root's."""
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the version of what follows: no capability of any kind
    assert ctypes.CDLL(None).capset(head, (ctypes.c_uint32 * 6)()) == 0


def read_denied(root: Path, objects: str, report: Connection) -> None:
    """Reports what becomes of a chain whose file may not be read, what `fsck` calls it, and what comes later."""
    drop_rights()
    with open_project(root) as project:
        chain = project.registry.chain(project.registry.live("prices"))
        store = TieredStore(DiskStore(project.settings.state), Remote(Objects(objects)))
        pool = pool_of(project, store)

        def kinds() -> list[str]:
            return [one.kind for one in find_problems(project.registry, project.store, advance=lambda _: None)]

        def lease() -> None:
            pool.lease(chain, LOCAL).release()

        for record in chain:
            store.share(record.digest)
        [shard] = store.locate(chain[-1].digest).glob("kv-*")
        shard.chmod(0)
        said = [outcome(lease)]
        found = find_problems(project.registry, project.store, advance=lambda _: None)
        left = remove_broken(found, project.store, rebuildable={str(chain[-1].ref)})
        shard.chmod(0o444)
        report.send(([p.kind for p in found], [p.kind for p in left], [*said, outcome(lease)], kinds()))


def lease_in_turn(root: Path, objects: str, report: Connection) -> None:
    """Reports what becomes of chains while there are descriptors for one of them; which copies were put aside."""
    with open_project(root) as project:
        chains = {name: project.registry.chain(project.registry.live(name)) for name in MODULES}
        store = TieredStore(DiskStore(project.settings.state), Remote(Objects(objects)))
        for chain in chains.values():
            for record in chain:
                store.share(record.digest)
        pool = pool_of(project, store)
        for name in MODULES:
            pool.lease(chains[name], LOCAL).release()
        pool.close()
        said: list[str] = []
        with no_descriptors(spare=4):  # two modules, and what opening one of them takes
            for name in (*MODULES, *MODULES):
                said.append(outcome(lambda name=name: pool.lease(chains[name], LOCAL).release()))  # type: ignore[misc]
            closed = pool.state().evicted
            with pool.lease(chains["prices"], LOCAL):
                said.append(outcome(lambda: pool.lease(chains["shipping"], LOCAL).release()))
                said.append(outcome(pool.check_room))
            said.append(outcome(pool.check_room))
            said.append(outcome(lambda: pool.lease(chains["shipping"], LOCAL).release()))
        state = pool.state()
        aside = [str(path) for path in (project.settings.state / "damaged").glob("*")]
        report.send((said, closed, state.damaged + state.replaced, aside))


def pool_of(project: Project, store: TieredStore) -> Pool:
    return Pool(store, project.source.facts, max_bytes=1 << 40, policy=Policy())
