"""API keys: made, shown once, listed, revoked, and told apart from what merely looks like one."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from quire.access.events import AccessEvent
from quire.access.key_records import FORM, KeyRecord, KeyStore, digest_of, new_key
from quire.access.last_used import LastUsed
from quire.access.principal import ROLES, SERVER_ROLES, Principal, Role
from quire.core import Scope
from quire.errors import InvalidRequest, KeyUnknown, Unauthenticated
from quire.settings import NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quire.access.policy import Policy

LONGEST_TITLE = 128
_NOBODY = KeyRecord(  # an unknown key costs the same comparison as a known one
    key_id="",
    digest=digest_of(""),
    title="",
    principal=Principal(""),
    created_at=datetime.fromtimestamp(0, UTC),
    created_by="",
)


class Keys:
    """The keys of one server. Who makes, lists or revokes them needs the action `keys` on their tenant."""

    def __init__(self, store: KeyStore, policy: Policy) -> None:
        self._store = store
        self._policy = policy
        self._last_used = LastUsed(store.used)

    def authenticate(self, key: str) -> Principal:
        """Whom `key` stands for.

        Raises:
            Unauthenticated: it never was a key of this server (all such read alike), has expired or was revoked.
        """
        form = FORM.fullmatch(key)
        if form is None:
            raise self._refused(None, "", "no such key")
        record = self._store.find(form[1]) or _NOBODY
        if not record.opens_with(key):
            raise self._refused(None, form[1], "no such key")
        if (state := record.state()) != "active":
            raise self._refused(record.principal, record.key_id, f"the key {record.key_id} is {state}")
        self._last_used.note(record.key_id)
        return record.principal

    def create(
        self,
        by: Principal,
        title: str,
        *,
        tenant: str,
        user: str = "",
        workspaces: Iterable[str] = (),
        roles: Iterable[str] = ("reader",),
        expires_at: datetime | None = None,
    ) -> tuple[KeyRecord, str]:
        """Make a key. The text given back is the only place where its secret ever stands. Mutates.

        Raises:
            AccessDenied: `by` may not manage the tenant's keys, or would grant a role beyond the tenant.
            InvalidRequest: a name, role or time that cannot be.
        """
        principal = Principal(tenant, user, frozenset(workspaces), cast("frozenset[Role]", frozenset(roles)))
        _check(title, principal, expires_at)
        self._policy.require(by, "keys", Scope("tenant", tenant))
        if (beyond := principal.roles & SERVER_ROLES) and not by.is_operator:
            raise self._policy.refused(by, f"grant {min(beyond)}", f"only an operator grants the role {min(beyond)}")
        key_id, key = new_key()
        record = KeyRecord(
            key_id=key_id,
            digest=digest_of(key),
            title=title,
            principal=replace(principal, key_id=key_id),
            created_at=datetime.now(UTC),
            created_by=str(by),
            expires_at=expires_at,
        )
        granted = {"roles": sorted(principal.roles), "user": user, "workspaces": sorted(principal.workspaces)}
        event = AccessEvent("key_created", by, f"key {key_id}", f"{title}: {_granted(principal)}", tenant, granted)
        self._store.add(record, event)
        return record, key

    def all(self, by: Principal, tenant: str | None = None) -> list[KeyRecord]:
        """The keys of a tenant, oldest first; None: of all that `by` may manage. Raises AccessDenied."""
        if tenant is None and not by.is_operator:
            tenant = by.tenant
        self._policy.require(by, "keys", None if tenant is None else Scope("tenant", tenant))
        return self._store.all(tenant)

    def get(self, by: Principal, key_id: str) -> KeyRecord:
        """One key. Raises AccessDenied; KeyUnknown, also for one of a tenant that `by` does not manage."""
        if not by.may("keys"):
            self._policy.require(by, "keys", Scope("tenant", by.tenant))
        record = self._store.find(key_id)
        if record is None or not self._policy.decide(by, "keys", Scope("tenant", record.principal.tenant)):
            raise KeyUnknown(f"no key {key_id[:64]!r}", hint="list the keys: `quire keys ls`, GET /v1/admin/keys")
        return record

    def revoke(self, by: Principal, key_id: str, reason: str) -> KeyRecord:
        """Let a key open nothing from now on, in every process. Raises as `get`. Mutates."""
        record = self.get(by, key_id)
        if record.revoked_at is None:
            at = datetime.now(UTC)
            event = AccessEvent("key_revoked", by, f"key {key_id}", reason, record.principal.tenant)
            self._store.revoke(key_id, at, event)
            record = replace(record, revoked_at=at)
        return record

    def close(self) -> None:
        """Write when the keys were last used. May be called twice."""
        self._last_used.close()

    def _refused(self, principal: Principal | None, key_id: str, reason: str) -> Unauthenticated:
        self._policy.record(AccessEvent("unauthenticated", principal, f"key {key_id}".strip(), reason))
        return Unauthenticated(f"the API key does not hold: {reason}", hint="ask an administrator for another")


def _granted(principal: Principal) -> str:
    workspaces = f" in {', '.join(sorted(principal.workspaces))}" if principal.workspaces else ""
    return f"{', '.join(sorted(principal.roles))} for {principal.tenant}/{principal.user or '(a program)'}{workspaces}"


def _check(title: str, principal: Principal, expires_at: datetime | None) -> None:
    if not title.strip() or len(title) > LONGEST_TITLE or not title.isprintable():
        raise InvalidRequest(
            f"a key needs a title of one line, up to {LONGEST_TITLE} characters, found {title[:60]!r}",
            hint="say what or whom it is for",
            param="title",
        )
    named = {"tenant": [principal.tenant], "workspaces": sorted(principal.workspaces)}
    named |= {"user": [principal.user]} if principal.user else {}
    for field, names in named.items():
        for name in names:
            if not re.fullmatch(NAME, name):
                raise InvalidRequest(
                    f"{field} must be lower-case letters, digits, dots, dashes and underscores, found {name[:64]!r}",
                    hint=f"change {field}",
                    param=field,
                )
    if unknown := principal.roles - set(ROLES):
        raise InvalidRequest(
            f"roles has {min(unknown)[:64]!r}, which is none", hint=f"there are {', '.join(ROLES)}", param="roles"
        )
    if not principal.roles:
        raise InvalidRequest(
            "roles is empty: the key could do nothing", hint=f"choose among {', '.join(ROLES)}", param="roles"
        )
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise InvalidRequest(
            f"the key would have expired at {expires_at:%Y-%m-%d %H:%M} UTC",
            hint="choose a later time",
            param="expires",
        )
