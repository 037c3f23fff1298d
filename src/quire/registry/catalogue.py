"""Finding versions: by name, by prefix, by digest, along the chain. Nothing here mutates.

A `reach` limits what is found to the scopes in it, and the work to that: the versions of other scopes are neither read
nor passed over, so that they can be neither counted nor timed. What is said of a module that is out of reach is what is
said of one that does not exist.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Exists, Select, exists, func, or_, select

from quire.access import EVERYTHING, Reach, unseen
from quire.core import State
from quire.errors import ChainBroken, ModuleUnknown, NoLiveVersion, VersionUnknown
from quire.registry.records import MadeFor, ModuleSummary, VersionRecord
from quire.registry.rows import scope_text, to_record
from quire.registry.schema import versions

_SHOWN = 5
_Query = TypeVar("_Query", bound=Select[Any])


def records(connection: Connection, query: Select[tuple[object, ...]]) -> list[VersionRecord]:
    """The records of a query on `versions`."""
    return [to_record(row) for row in connection.execute(query).mappings()]


def visible(query: _Query, reach: Reach, module_id: str | None = None) -> _Query:
    """`query` on `versions`, limited to a module and to `reach`, by way of the indexes made for it."""
    if reach.everything:
        return query if module_id is None else query.where(versions.c.module_id == module_id)
    scopes = sorted(map(scope_text, reach.scopes))
    if module_id is None:
        query = query.where(versions.c.scope.in_(scopes))
    else:
        query = query.where(versions.c.scope_name.in_([f"{scope}@{module_id}" for scope in scopes]))
    query = query.where(or_(versions.c.narrowed.is_(None), versions.c.narrowed.in_(scopes)))
    return query.where(or_(versions.c.state == "live", ~_moved_away(scopes)))


def _moved_away(scopes: Sequence[str]) -> Exists:
    """Whether the module has been moved out of `scopes` since a version of it was within: then that one is, too.

    Looks at modules alone of which something is within.
    """
    since = versions.alias("since")
    return exists().where(
        since.c.module_id == versions.c.module_id,
        since.c.state != "candidate",
        since.c.scope.not_in(scopes),
        or_(since.c.state == "live", since.c.sequence > versions.c.sequence),
    )


def of_module(module_id: str) -> Select[Any]:
    """A query for all versions of one module, oldest registration first."""
    return select(versions).where(versions.c.module_id == module_id).order_by(versions.c.sequence)


def all_versions(
    connection: Connection, module_id: str | None = None, reach: Reach = EVERYTHING
) -> list[VersionRecord]:
    """Newest registration first. Raises ModuleUnknown for a name without versions."""
    found = records(connection, visible(select(versions).order_by(versions.c.sequence.desc()), reach, module_id))
    if not found and module_id is not None:
        raise _unknown(connection, module_id, reach)
    return found


def exact(connection: Connection, module_id: str, version: str, reach: Reach = EVERYTHING) -> VersionRecord | None:
    """The version of exactly that name, or None."""
    found = records(connection, visible(select(versions).where(versions.c.version == version), reach, module_id))
    return found[0] if found else None


def find(connection: Connection, module_id: str, prefix: str, reach: Reach = EVERYTHING) -> VersionRecord:
    """The one version that is, or else begins with, `prefix`. Raises ModuleUnknown, VersionUnknown."""
    if same := exact(connection, module_id, prefix, reach):
        return same
    present = all_versions(connection, module_id, reach)
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


def live_or_none(connection: Connection, module_id: str, reach: Reach = EVERYTHING) -> VersionRecord | None:
    """The live version, or None for a module without one and for an unknown module."""
    found = records(connection, visible(select(versions).where(versions.c.state == "live"), reach, module_id))
    return found[0] if found else None


def all_live(connection: Connection, reach: Reach = EVERYTHING) -> list[VersionRecord]:
    """The live versions of all modules, by name."""
    found = records(connection, visible(select(versions).where(versions.c.state == "live"), reach))
    return sorted(found, key=lambda record: record.module_id)  # here: databases have orders of their own for text


def made_for(connection: Connection, state: State) -> list[MadeFor]:
    """All versions in `state`."""
    of = versions.c
    query = select(of.module_id, of.version, of.model_fingerprint, of.tokenizer_fingerprint).where(of.state == state)
    return [MadeFor(*row) for row in connection.execute(query)]


def live(connection: Connection, module_id: str, reach: Reach = EVERYTHING) -> VersionRecord:
    """The live version. Raises ModuleUnknown, NoLiveVersion."""
    if record := live_or_none(connection, module_id, reach):
        return record
    present = all_versions(connection, module_id, reach)
    states = ", ".join(f"{record.version} {record.state}" for record in present[:_SHOWN])
    raise NoLiveVersion(
        f"{module_id} has no live version; newest registered: {states}",
        hint=f"publish one: `quire publish {module_id}@VERSION`",
    )


def summaries(connection: Connection, reach: Reach = EVERYTHING) -> list[ModuleSummary]:
    """Every module by name."""
    live_version = func.max(versions.c.version).filter(versions.c.state == "live")
    query = visible(select(versions.c.module_id, live_version, func.count()), reach).group_by(versions.c.module_id)
    summaries = [ModuleSummary(*row) for row in connection.execute(query)]
    return sorted(summaries, key=lambda summary: summary.module_id)


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


def digests(connection: Connection, *, state: State | None = None) -> frozenset[str]:
    """The digest of every registered version, or of those in one state."""
    query = select(versions.c.digest)
    return frozenset(connection.execute(query if state is None else query.where(versions.c.state == state)).scalars())


def _unknown(connection: Connection, module_id: str, reach: Reach) -> ModuleUnknown:
    if not reach.everything:
        return unseen(module_id)
    names = list(connection.execute(select(versions.c.module_id).distinct()).scalars())
    near = difflib.get_close_matches(module_id, names, n=3)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif names:
        hint = f"registered: {', '.join(sorted(names)[:_SHOWN])}"
    else:
        hint = "nothing is registered yet: run `quire build`"
    return ModuleUnknown(f"no module named {module_id!r}", hint=hint)
