"""What the audit log holds. Frozen, free of the database."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Self

from quire.errors import InvalidSetting

# Kinds are grouped by what stands before the dot; a group can be asked for as a whole.
KINDS: dict[str, str] = {
    "module.register": "a compiled version was entered as candidate",
    "module.replace": "a version was compiled again to other bytes",
    "module.renew": "a version got another expiry",
    "module.declare": "a version got other golden tests, or none",
    "module.test": "a version was asked its golden tests",
    "module.publish": "a version went live",
    "module.retire": "a version was taken out of service",
    "module.revoke": "a version was forbidden for good",
    "module.rollback": "an earlier version went live again",
    "module.pin": "a version was protected from garbage collection",
    "module.unpin": "that protection was taken away",
    "module.forget": "a version was removed from the catalogue",
    "module.changed": "the bytes of an open version changed on a server, which closed it",
    "model.changed": "files of the model changed under a server, which answers nothing until it is restarted",
    "invalidation.stale": "a version was found to be stale; the triggers are in the details",
    "invalidation.cleared": "a stale version was found to be what its inputs say again",
    "invalidation.compared": "golden answers of a version were compared with those of the one it replaces",
    "invalidation.narrowed": "a version lost readers as the acl of its module changed, or got them back",
    "canary.start": "a candidate began to run beside the live version",
    "canary.end": "that ended, with what was seen of both",
    "route.change": "another route table came into force",
    "route.rollback": "an earlier route table came into force again",
    "route.decision": "a question was sent to a module, or to none",
    "access.denied": "somebody asked for what they may not have",
    "access.unauthenticated": "a key or token was not accepted",
    "key.create": "an API key was made",
    "key.revoke": "an API key was revoked",
    "answer.given": "a question and its answer, in their words (audit.texts)",
    "project.export": "the project was read into an export, whose index has the digest; outcome: how it ended",
    "project.import": "this registry was made from an export, whose index has the digest",
    "log.anchor": "the kept head of this log was set anew",
    "log.lost": "records that could not be kept, by kind",
    "log.folded": "a machine repeated itself: how many further records of one kind were not written, and when",
}
# What says something about requests and copies. All else changes what Quire is, and so counts in `Registry.generation`.
NO_CHANGES = {
    "module.changed",
    "model.changed",
    "route.decision",
    "access.denied",
    "access.unauthenticated",
    "answer.given",
    "project.export",
    "project.import",
    "log.lost",
    "log.folded",
    "log.anchor",
}


def is_change(kind: str) -> bool:
    """Whether a record of this kind says that something is otherwise from now on."""
    return kind not in NO_CHANGES


def recordable(text: str) -> str:
    """`text` without what no database takes: half surrogate pairs, and the NUL that PostgreSQL refuses."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """What somebody did. `why` must not be empty: what nobody explained cannot be judged later.

    `what`: the thing it was done to, such as ``billing@1f3c09aa7d21`` or ``key 3f9a``. `module`: the module that is
    concerned, if one is. `tenant`: whose auditors may read it; "": those of the whole installation. `digest`: of the
    bytes concerned. `details`: plain JSON. `at`: when, in UTC; None: when it is written. `machine`: a server did it by
    itself, without a person: its repetitions are folded (`audit.folding`).
    """

    kind: str
    who: str
    what: str
    why: str
    digest: str = ""
    tenant: str = ""
    module: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    machine: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """An event as it stands in the log. `sequence` starts at 1 and has no gaps.

    `generation` counts the changes up to here. `hash` is that of everything else in the record, `previous` the hash
    of the record before.
    """

    sequence: int
    at: str  # ISO 8601, UTC, microseconds
    kind: str
    who: str
    tenant: str
    what: str
    module: str | None
    why: str
    digest: str
    details: Mapping[str, Any]
    generation: int
    previous: str
    hash: str

    def as_json(self) -> dict[str, Any]:
        """One line of an export: the RFC 8785 bytes of it without `hash` have that hash."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, slots=True)
class Head:
    """How many records there are, and the hash of the last: whoever keeps it can tell that none is gone.

    An empty log has the hash that its first record will name as `previous`.
    """

    records: int
    hash: str

    def __str__(self) -> str:
        return f"{self.records}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `str` gives. Raises InvalidSetting."""
        found = re.fullmatch(r"(0|[1-9][0-9]{0,17}):(b3:[0-9a-f]{64})", text.strip())
        if not found:
            raise InvalidSetting(
                f"expected the head of an audit log, such as 12:b3:<64 hex digits>, found {text[:90]!r}",
                hint="`quire audit verify` prints it",
            )
        return cls(int(found[1]), found[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which records: all conditions that are given must hold.

    `kinds`: names, or groups such as ``module``. `tenant`: None for all tenants. `since` is included, `until` is not.
    """

    kinds: tuple[str, ...] = ()
    who: str | None = None
    module: str | None = None
    tenant: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        """Raises InvalidSetting for a kind that does not exist: its records would be missed without a word."""
        known = {*KINDS, *(kind.partition(".")[0] for kind in KINDS)}
        for kind in self.kinds:
            if kind not in known:
                raise InvalidSetting(
                    f"there is no kind of record {kind[:60]!r}", hint=f"known: {', '.join(sorted(known))}"
                )
