"""Keeping registry and store in step: garbage collection, finding damage, repairing it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from quire.artifact import digest_bytes, is_digest, open_artifact
from quire.errors import ArtifactError, RegistryError, StoreError, VersionInUse

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from quire.registry import Registry, VersionRecord
    from quire.store import Store


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `subject`: module@version, digest or path; `remedy`: what repairs it."""

    kind: str  # "damaged" | "missing" | "orphaned" | "left behind" | "registry"
    subject: str
    detail: str
    remedy: str
    record: VersionRecord | None = None


@dataclass(slots=True)
class Collected:
    """What garbage collection removed, and what it left because somebody is using it."""

    versions: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    in_use: list[str] = field(default_factory=list)
    freed_bytes: int = 0


def collect_garbage(registry: Registry, store: Store, *, keep: int, actor: str, dry_run: bool = False) -> Collected:
    """Forget versions beyond the newest `keep` of each module and remove artifacts nobody refers to.

    Never what is live, pinned, in use by any process, or an ancestor of what is kept. Mutates both, or neither with
    `dry_run`. The caller holds the build lock, so that no artifact is between store and registry.
    """
    done = Collected()
    for record in registry.gc_candidates(keep):
        name = str(record.ref)
        size = _size(store, record.digest)
        if size is not None and store.in_use(record.digest):
            done.in_use.append(name)
            continue
        if not dry_run:
            # The registry first: it refuses what was published or pinned meanwhile, and what a child kept above needs.
            try:
                registry.forget(record.module_id, record.version, actor=actor, reason="garbage collection")
            except VersionInUse:
                done.in_use.append(name)
                continue
            if size is not None:
                store.delete(record.digest)
        done.versions.append(name)
        done.freed_bytes += size or 0
    known = registry.referenced_digests() | {r.digest for r in registry.gc_candidates(keep)}
    for digest in store.digests():
        if digest not in known:
            size = _size(store, digest) or 0
            if not dry_run and not store.delete(digest):
                done.in_use.append(digest)
                continue
            done.orphans.append(digest)
            done.freed_bytes += size
    if not dry_run:
        store.sweep()
    return done


def find_problems(registry: Registry, store: Store, *, advance: Callable[[str], None]) -> list[Problem]:
    """Read everything once and name what is damaged, missing or orphaned. Mutates nothing."""
    problems = [
        Problem("registry", f.subject, f.problem, "restore the registry from a backup, or build into a new one")
        for f in registry.integrity(lambda manifest: digest_bytes(manifest.encode()))
    ]
    try:
        records, known = registry.versions(), registry.referenced_digests()
    except RegistryError as error:
        return [*problems, Problem("registry", "database", error.message, error.hint)]
    for record in records:
        advance(str(record.ref))
        if problem := check_version(record, store):
            problems.append(problem)
    for digest in store.digests():
        if digest not in known:
            problems.append(Problem("orphaned", digest, "no version refers to this artifact", "remove the artifact"))
    problems += [Problem("orphaned", str(p), "it is no artifact", "remove it") for p in store.strays()]
    return problems


def check_version(record: VersionRecord, store: Store) -> Problem | None:
    """Compare every byte of a version's artifact with its digests."""
    try:
        place = store.locate(record.digest)
    except StoreError as error:
        return Problem("missing", str(record.ref), error.message, _remedy(record), record)
    try:
        with open_artifact(place, expect_digest=record.digest) as artifact:
            artifact.verify()
    except ArtifactError as error:
        return Problem("damaged", str(record.ref), error.message, _remedy(record), record)
    return None


def _remedy(record: VersionRecord) -> str:
    if record.state != "live":
        return "compile it again if its sources are as they were, else forget it"
    return f"build it from its sources; without them `quire rollback {record.module_id}` or `quire retire`"


def remove_broken(problems: list[Problem], store: Store, *, rebuildable: Container[str]) -> list[Problem]:
    """Drop orphans, and damaged bytes that a build makes anew or nobody may use; give the problems that stay.

    Damaged bytes of a live version that cannot be compiled again are kept: they are the last there is of it. Mutates
    the store.

    Args:
        rebuildable: ``module@version`` of what the project as it stands would compile.
    """
    remaining: list[Problem] = []
    for problem in problems:
        if problem.kind == "orphaned":
            gone = _remove_orphan(problem.subject, store)
        elif problem.kind == "damaged" and problem.record:
            kept = problem.record.state == "live" and problem.subject not in rebuildable
            gone = not kept and store.delete(problem.record.digest)
        else:
            gone = problem.kind != "registry"
        if not gone:
            remaining.append(problem)
    return remaining


def forget_unrepairable(problems: list[Problem], registry: Registry, store: Store, *, actor: str) -> list[str]:
    """After the rebuild: forget old versions whose artifact is broken still; give their names. Mutates the registry.

    What is live, pinned or the parent of a kept version stays, and `find_problems` goes on reporting it.
    """
    forgotten: list[str] = []
    for problem in problems:
        record = problem.record
        if record is None or check_version(record, store) is None:
            continue
        try:
            registry.forget(record.module_id, record.version, actor=actor, reason=f"fsck: {problem.kind}")
        except VersionInUse:
            continue
        forgotten.append(str(record.ref))
    return forgotten


def _remove_orphan(subject: str, store: Store) -> bool:
    if is_digest(subject):
        return store.delete(subject)
    store.remove_stray(Path(subject))
    return True


def _size(store: Store, digest: str) -> int | None:
    try:
        return store.size(digest)
    except StoreError:
        return None
