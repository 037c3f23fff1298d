"""Keeping registry and store in step: garbage collection, finding damage, repairing it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from quire.artifact import digest_bytes, is_digest, open_artifact
from quire.errors import ArtifactError, ArtifactNotFound, RegistryError, StoreError, StoreFull, VersionInUse

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from quire.registry import Registry, VersionRecord
    from quire.store import Store


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `subject`: module@version, digest or path; `remedy`: what repairs it."""

    # "damaged" | "missing" | "unreadable" | "orphaned" | "interrupted" | "left behind" | "not shared" |
    # "object store" | "registry"
    kind: str
    subject: str
    detail: str
    remedy: str
    record: VersionRecord | None = None


@dataclass(slots=True)
class Collected:
    """What garbage collection removed, and what it left because somebody is using it. `finished`: digests of artifacts
    whose removal an earlier run had begun."""

    versions: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    in_use: list[str] = field(default_factory=list)
    freed_bytes: int = 0


def collect_garbage(registry: Registry, store: Store, *, keep: int, actor: str, dry_run: bool = False) -> Collected:
    """Forget versions beyond the newest `keep` of each module and remove artifacts nobody refers to.

    Never what is live, pinned, in use by any process, or an ancestor of what is kept. What is forgotten goes from the
    object store too, and so does what senders that died have left there; artifacts there that this registry does not
    know may be another's, and stay. A run that was killed is finished by the next one. Mutates all, or nothing with
    `dry_run`. The caller holds the build lock, so that no artifact is between store and registry.
    """
    done = Collected()
    abandoned = store.remote.abandoned() if store.remote else []  # first: if it is out of reach, nothing is forgotten
    _finish_removals(registry, store, done, dry_run=dry_run)
    for record in registry.gc_candidates(keep):
        name = str(record.ref)
        size = _size(store, record.digest)
        if size is not None and store.in_use(record.digest):
            done.in_use.append(name)
            continue
        if not dry_run:
            # The registry first: it refuses what was published or pinned meanwhile, and what a child kept above needs.
            with suppress(StoreFull):  # room is what this makes: without the note, what a kill leaves is an orphan
                store.begin_removal(record.digest)
            try:
                registry.forget(record.module_id, record.version, actor=actor, reason="garbage collection")
            except VersionInUse:
                store.cancel_removal(record.digest)
                done.in_use.append(name)
                continue
            store.finish_removal(record.digest)
        done.versions.append(name)
        done.freed_bytes += size or 0
    known = registry.referenced_digests() | {r.digest for r in registry.gc_candidates(keep)}
    for digest in store.digests():
        if digest not in known and digest not in done.finished:
            size = _size(store, digest) or 0
            if not dry_run and not store.drop_copy(digest):
                done.in_use.append(digest)
                continue
            done.orphans.append(digest)
            done.freed_bytes += size
    if store.remote:
        for digest in abandoned:
            if dry_run or store.remote.drop_abandoned(digest):
                done.orphans.append(f"{digest} in {store.remote.url}")
    if not dry_run:
        store.sweep()
    return done


def _finish_removals(registry: Registry, store: Store, done: Collected, *, dry_run: bool) -> None:
    """Remove what an earlier run had begun to remove, unless a version refers to it: then it had not yet begun, or the
    same was compiled again."""
    begun = store.removals()
    known = registry.referenced_digests() if begun else frozenset()
    for digest in begun:
        size = (_size(store, digest) if digest not in known else None) or 0
        if digest not in known and not dry_run and not store.finish_removal(digest):
            done.in_use.append(digest)
        elif digest not in known:
            done.finished.append(digest)
            done.freed_bytes += size
        elif not dry_run:
            store.cancel_removal(digest)


def find_problems(registry: Registry, store: Store, *, advance: Callable[[str], None]) -> list[Problem]:
    """Read everything once and name what is damaged, missing or orphaned. Mutates nothing.

    What garbage collection had begun to remove when it was stopped is named too, as ``interrupted``: it is no damage.
    """
    here = store.digests()  # before the registry is read: what another server publishes meanwhile is no orphan
    restore = "restore the registry from a backup, or build into a new one"
    problems = [
        Problem("registry", f.subject, f.problem, "see `quire audit verify`" if f.check == "audit" else restore)
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
    begun = store.removals()
    for digest in begun:
        if digest not in known:
            found = "its version was forgotten, and `quire gc` was stopped before it had removed all of it"
            problems.append(Problem("interrupted", digest, found, "finish it: `quire gc`"))
    for digest in here:
        if digest not in known and digest not in begun:
            problems.append(Problem("orphaned", digest, "no version refers to this artifact", "remove the artifact"))
    problems += [Problem("orphaned", str(p), "it is no artifact", "remove it") for p in store.strays()]
    return problems + _problems_elsewhere(_needed([r for r in records if r.state == "live"], records), store)


def _needed(live: list[VersionRecord], records: list[VersionRecord]) -> list[VersionRecord]:
    """`live` and what is registered of their ancestors; that one is not has its own finding."""
    known = {record.digest: record for record in records}
    needed: dict[str, VersionRecord] = {}
    for record in live:
        link: VersionRecord | None = record
        while link and link.digest not in needed:
            needed[link.digest] = link
            link = known.get(link.parent.digest) if link.parent else None
    return list(needed.values())


def _problems_elsewhere(needed: list[VersionRecord], store: Store) -> list[Problem]:
    """What the object store lacks of what it needs, by manifests and sizes, and what dead senders have left there."""
    if store.remote is None:
        return []
    problems: list[Problem] = []
    try:
        for record in needed:
            if found := store.remote.problem(record.digest):
                problems.append(Problem("not shared", str(record.ref), found, "push it from this machine", record))
        for digest in store.remote.abandoned():
            found = f"{store.remote.url}: files without a manifest, from a sender that died"
            problems.append(Problem("left behind", digest, found, "remove them: `quire gc`"))
    except StoreError as error:
        problems.append(Problem("object store", store.remote.url, error.message, error.hint))
    return problems


def check_version(record: VersionRecord, store: Store) -> Problem | None:
    """Compare every byte of a version's artifact on this machine with its digests; elsewhere, whether it is there.

    Raises ResourceError: then nothing is known of it.
    """
    try:
        with open_artifact(store.locate(record.digest), expect_digest=record.digest) as artifact:
            artifact.verify()
    except ArtifactNotFound as error:
        if store.remote and store.has(record.digest):
            return None
        return Problem("missing", str(record.ref), error.message, _remedy(record), record)
    except StoreError as error:
        return Problem("unreadable", str(record.ref), error.message, error.hint, record)
    except ArtifactError as error:
        return Problem("damaged", str(record.ref), error.message, _remedy(record), record)
    return None


def _remedy(record: VersionRecord) -> str:
    if record.state != "live":
        return "compile it again if its sources are as they were, else forget it"
    return f"build it from its sources; without them `quire rollback {record.module_id}` or `quire retire`"


def remove_broken(problems: list[Problem], store: Store, *, rebuildable: Container[str]) -> list[Problem]:
    """Drop orphans, and damaged bytes that a build makes anew or nobody may use; give the problems that stay.

    Removals that garbage collection had begun are finished. Damaged bytes of a live version that cannot be compiled
    again are kept: they are the last there is of it. Mutates the store.

    Args:
        rebuildable: ``module@version`` of what the project as it stands would compile.
    """
    remaining: list[Problem] = []
    for problem in problems:
        if problem.kind == "orphaned":
            gone = _remove_orphan(problem.subject, store)
        elif problem.kind == "interrupted":
            gone = store.finish_removal(problem.subject)
        elif problem.kind == "damaged" and problem.record and _fetch_again(problem.record, store):
            gone = True
        elif problem.kind == "not shared" and problem.record:
            gone = _share(problem.record, store)
        elif problem.kind == "left behind" and store.remote:
            store.remote.drop_abandoned(problem.subject)
            gone = True
        elif problem.kind == "damaged" and problem.record:
            kept = problem.record.state == "live" and problem.subject not in rebuildable
            gone = not kept and store.delete(problem.record.digest)
        else:
            gone = problem.kind not in ("registry", "object store", "unreadable")
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
        if record is None or (found := check_version(record, store)) is None or found.kind == "unreadable":
            continue
        try:
            registry.forget(record.module_id, record.version, actor=actor, reason=f"fsck: {problem.kind}")
        except VersionInUse:
            continue
        forgotten.append(str(record.ref))
    return forgotten


def _fetch_again(record: VersionRecord, store: Store) -> bool:
    """Take the copy of the object store for a damaged one, if it has one."""
    if store.remote is None or store.remote.problem(record.digest) or not store.drop_copy(record.digest):
        return False
    store.lease(record.digest).release()
    return True


def _share(record: VersionRecord, store: Store) -> bool:
    try:
        store.share(record.digest)
    except (ArtifactError, StoreError):  # `find_problems` goes on reporting it
        return False
    return True


def _remove_orphan(subject: str, store: Store) -> bool:
    if is_digest(subject):
        return store.drop_copy(subject)
    store.remove_stray(Path(subject))
    return True


def _size(store: Store, digest: str) -> int | None:
    try:
        return store.size(digest)
    except ArtifactNotFound:
        return None
