"""Finding versions: by name, by prefix, by digest, along the chain. Nothing here mutates."""

from __future__ import annotations

import difflib

from sqlalchemy import Connection, Select, func, select

from quire.errors import ChainBroken, ModuleUnknown, NoLiveVersion, VersionUnknown
from quire.registry.records import ModuleSummary, VersionRecord
from quire.registry.rows import to_record
from quire.registry.schema import versions

_SHOWN = 5


def records(connection: Connection, query: Select[tuple[object, ...]]) -> list[VersionRecord]:
    """The records of a query on `versions`."""
    return [to_record(row) for row in connection.execute(query).mappings()]


def all_versions(connection: Connection, module_id: str | None = None) -> list[VersionRecord]:
    """Newest registration first. Raises ModuleUnknown for a name without versions."""
    query = select(versions).order_by(versions.c.sequence.desc())
    if module_id is None:
        return records(connection, query)
    found = records(connection, query.where(versions.c.module_id == module_id))
    if not found:
        raise _unknown(connection, module_id)
    return found


def exact(connection: Connection, module_id: str, version: str) -> VersionRecord | None:
    """The version of exactly that name, or None."""
    query = select(versions).where(versions.c.module_id == module_id, versions.c.version == version)
    found = records(connection, query)
    return found[0] if found else None


def find(connection: Connection, module_id: str, prefix: str) -> VersionRecord:
    """The one version that is, or else begins with, `prefix`. Raises ModuleUnknown, VersionUnknown."""
    if same := exact(connection, module_id, prefix):
        return same
    present = all_versions(connection, module_id)
    matching = [record for record in present if prefix and record.version.startswith(prefix)]
    if len(matching) == 1:
        return matching[0]
    shown = ", ".join(record.version for record in (matching or present)[:_SHOWN])
    if matching:
        raise VersionUnknown(
            f"{module_id}@{prefix} is ambiguous: expected one version, found {len(matching)} ({shown})",
            hint="give more digits",
        )
    raise VersionUnknown(
        f"{module_id} has no version {prefix!r}; newest registered: {shown}",
        hint=f"see `quire show {module_id}`",
    )


def live_or_none(connection: Connection, module_id: str) -> VersionRecord | None:
    """The live version, or None for a module without one and for an unknown module."""
    query = select(versions).where(versions.c.module_id == module_id, versions.c.state == "live")
    found = records(connection, query)
    return found[0] if found else None


def live(connection: Connection, module_id: str) -> VersionRecord:
    """The live version. Raises ModuleUnknown, NoLiveVersion."""
    if record := live_or_none(connection, module_id):
        return record
    present = all_versions(connection, module_id)
    states = ", ".join(f"{record.version} {record.state}" for record in present[:_SHOWN])
    raise NoLiveVersion(
        f"{module_id} has no live version; newest registered: {states}",
        hint=f"publish one: `quire publish {module_id}@VERSION`",
    )


def summaries(connection: Connection) -> list[ModuleSummary]:
    """Every module by name."""
    live_version = func.max(versions.c.version).filter(versions.c.state == "live")
    query = select(versions.c.module_id, live_version, func.count())
    query = query.group_by(versions.c.module_id).order_by(versions.c.module_id)
    return [ModuleSummary(*row) for row in connection.execute(query)]


def parent_of(connection: Connection, record: VersionRecord) -> VersionRecord | None:
    """The parent with the very bytes `record` was compiled on; None at the root. Raises ChainBroken."""
    wanted = record.parent
    if wanted is None:
        return None
    parent = exact(connection, wanted.module_id, wanted.version)
    if parent is None:
        raise ChainBroken(
            f"{record.ref} was compiled after {wanted}, which is not registered",
            hint=f"compile or pull {wanted.module_id} first, or run `quire fsck`",
        )
    if parent.digest != wanted.digest:
        raise ChainBroken(
            f"{record.ref} was compiled after {wanted} with digest {wanted.digest}, found {parent.digest}",
            hint=f"its parent was compiled again with other bytes: build {record.module_id} again too",
        )
    return parent


def chain(connection: Connection, record: VersionRecord) -> tuple[VersionRecord, ...]:
    """Root first, `record` last. Raises ChainBroken, also for a damaged catalogue where it never ends."""
    links = [record]
    seen = {(record.module_id, record.version)}
    while parent := parent_of(connection, links[-1]):
        if (parent.module_id, parent.version) in seen:
            raise ChainBroken(f"the chain of {record.ref} runs in a circle at {parent.ref}", hint="`quire fsck`")
        seen.add((parent.module_id, parent.version))
        links.append(parent)
    return tuple(reversed(links))


def children(connection: Connection, record: VersionRecord) -> tuple[VersionRecord, ...]:
    """The versions compiled directly after this one, in order of registration."""
    query = select(versions).where(
        versions.c.parent_module_id == record.module_id, versions.c.parent_version == record.version
    )
    return tuple(records(connection, query.order_by(versions.c.sequence)))


def by_digest(connection: Connection, digest: str) -> VersionRecord:
    """The version whose artifact has this digest. Raises VersionUnknown."""
    found = records(connection, select(versions).where(versions.c.digest == digest).order_by(versions.c.sequence))
    if not found:
        raise VersionUnknown(f"no registered version has the digest {digest!r}", hint="see `quire ls`")
    return found[0]


def digests(connection: Connection) -> frozenset[str]:
    """The digest of every registered version."""
    return frozenset(connection.execute(select(versions.c.digest)).scalars())


def _unknown(connection: Connection, module_id: str) -> ModuleUnknown:
    names = list(connection.execute(select(versions.c.module_id).distinct()).scalars())
    near = difflib.get_close_matches(module_id, names, n=3)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif names:
        hint = f"registered: {', '.join(sorted(names)[:_SHOWN])}"
    else:
        hint = "nothing is registered yet: run `quire build`"
    return ModuleUnknown(f"no module named {module_id!r}", hint=hint)
