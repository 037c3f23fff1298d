"""Tokens of an OpenID Connect issuer (JWT, RFC 7519), read as RFC 8725 advises: nothing in them is believed before the
signature, and what the signature is made with is ours to choose."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt

from quire.access.events import AccessEvent
from quire.access.principal import ROLES, SERVER_ROLES, Principal, Role
from quire.errors import InvalidSetting, Unauthenticated
from quire.settings import NAME

if TYPE_CHECKING:
    from quire.access.policy import Policy
    from quire.access.signing_keys import SigningKeys

ALGORITHMS: tuple[str, ...] = ("RS256", "ES256")
LONGEST = 16 << 10  # characters of a token
LONGEST_USER = 256
MOST_WORKSPACES = 1024
TYPES = {"jwt", "at+jwt"}  # not, for one, the logout tokens that the same issuer signs
OWN_ROLES: dict[str, Role] = {role: role for role in ROLES if role not in SERVER_ROLES}


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must say, and what of it becomes the principal. Claims are dotted paths into its content.

    `roles`: our role for each name that may stand in the roles claim; other names say nothing to us.
    """

    issuer: str
    audience: str
    skew_seconds: float = 60.0
    tenant_claim: str = "tenant"
    user_claim: str = "sub"
    workspaces_claim: str = "workspaces"
    roles_claim: str = "roles"
    roles: Mapping[str, Role] = field(default_factory=lambda: OWN_ROLES)


class Tokens:
    """Checks tokens of one issuer."""

    def __init__(self, rules: TokenRules, keys: SigningKeys, policy: Policy) -> None:
        self._rules = rules
        self._keys = keys
        self._policy = policy

    def check(self) -> None:
        """Whether a token could be checked now. May wait for the issuer's keys. Raises TokenKeysMissing."""
        self._keys.check()

    def authenticate(self, token: str) -> Principal:
        """Whom `token` stands for.

        Raises:
            Unauthenticated: it does not hold; the message says why, to one who may have signed in and cannot tell.
            TokenKeysMissing.
        """
        try:
            return self._principal(self._claims(token))
        except jwt.PyJWTError as error:
            said = str(error)
        except _Refused as error:
            said = str(error)
        except RecursionError:
            said = "it is nested too deeply"
        self._policy.record(AccessEvent("unauthenticated", None, "token", said))
        raise Unauthenticated(f"the token does not hold: {said}", hint="sign in again")

    def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > LONGEST:
            raise _Refused(f"it is longer than {LONGEST:,} characters")
        header = jwt.get_unverified_header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise _Refused(f"it must be signed with {' or '.join(ALGORITHMS)}")
        kind = str(header.get("typ", "jwt")).lower().removeprefix("application/")
        if kind not in TYPES:
            raise _Refused("it is of another type than an access or identity token")
        key = self._keys.find(kid, algorithm)
        if key is None:
            raise _Refused("its signing key is not among the issuer's")
        claims: dict[str, Any] = jwt.decode(
            token,
            key=key,
            algorithms=[algorithm],
            audience=self._rules.audience,
            issuer=self._rules.issuer,
            leeway=self._rules.skew_seconds,
            options={"require": ["exp", "iss", "aud"]},
        )
        return claims

    def _principal(self, claims: dict[str, Any]) -> Principal:
        rules = self._rules
        tenant, user = _claim(claims, rules.tenant_claim), _claim(claims, rules.user_claim)
        if not isinstance(tenant, str) or not NAME.fullmatch(tenant):
            raise _Refused(f"its claim {rules.tenant_claim} must name a tenant")
        if (
            not isinstance(user, str)
            or not re.fullmatch(rf"[^/\s]{{1,{LONGEST_USER}}}", user)
            or not user.isprintable()
        ):
            raise _Refused(f"its claim {rules.user_claim} must name a user, without blanks or slashes")
        # A workspace that cannot be one is left out: it could hold nothing, and others may need the name.
        workspaces = frozenset(filter(NAME.fullmatch, _names(claims, rules.workspaces_claim)))
        roles = frozenset(rules.roles[name] for name in _names(claims, rules.roles_claim) if name in rules.roles)
        return Principal(tenant, user, workspaces, roles)


class _Refused(Exception):
    """Why a token is not good enough, for `authenticate` to tell."""


def _claim(claims: dict[str, Any], path: str) -> Any:
    """The value at a dotted path; a claim whose own name has dots in it (a URL) goes first. None: there is none."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _names(claims: dict[str, Any], path: str) -> list[str]:
    """A claim that is a list of names, or one text with blanks between them, as `scope` is."""
    value = _claim(claims, path)
    listed = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    return [name for name in listed if isinstance(name, str)][:MOST_WORKSPACES]


def parse_roles(text: str) -> dict[str, Role]:
    """``quire-users=reader, quire-admins=admin``; empty: our own names, without those that reach beyond a tenant.

    Raises:
        InvalidSetting.
    """
    if not text.strip():
        return OWN_ROLES
    roles: dict[str, Role] = {}
    for pair in text.split(","):
        name, _, role = (part.strip() for part in pair.rpartition("="))
        known = next((ours for ours in ROLES if ours == role), None)
        if not name or known is None:
            raise InvalidSetting(
                f"access.roles must be pairs NAME=ROLE, found {pair.strip()!r}", hint=f"roles are {', '.join(ROLES)}"
            )
        roles[name] = known
    return roles
