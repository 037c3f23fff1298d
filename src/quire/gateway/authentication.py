"""Who asks: the bearer credential of a request, or, where none is wanted, this machine.

Without authentication, only programs on this machine may ask. Listening on loopback keeps other machines out, but not
the pages in this machine's browser: a page may let its own host name point to 127.0.0.1 and then read our answers. Its
requests still carry that name as their host.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import Request

from quire.access import LOCAL, Authenticator, Principal
from quire.access.signing_keys import SigningKeys
from quire.access.tokens import TokenRules, Tokens, parse_roles
from quire.errors import InvalidRequest, InvalidSetting
from quire.gateway.addresses import host_named, is_local
from quire.gateway.issuer_keys import key_source
from quire.gateway.passage import PROBES, route_of

if TYPE_CHECKING:
    from quire.gateway.gateway import Gateway
    from quire.settings import Settings
    from quire.wiring import Access


async def authenticated(request: Request) -> None:
    """Puts the principal into ``request.state.principal``.

    Raises:
        EngineStopped: the server is shutting down, and this is no probe.
        Unauthenticated, TokenKeysMissing, RegistryError; InvalidRequest as `addressed_here`.
    """
    gateway: Gateway = request.app.state.gateway
    if route_of(request.scope) not in PROBES:
        gateway.check_open()
    await addressed_here(request)
    if not gateway.authenticator.asks:
        request.state.principal = LOCAL
        return
    sent = request.headers.getlist("authorization")
    # Of two, none is to be preferred: a proxy may have checked the one and passed on the other.
    scheme, _, credential = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    given = credential.strip() if scheme.lower() == "bearer" else None
    request.state.principal = await asyncio.to_thread(gateway.authenticator.authenticate, given)


async def addressed_here(request: Request) -> None:
    """Raises InvalidRequest for a request to a foreign host name, where no credential is wanted."""
    gateway: Gateway = request.app.state.gateway
    sent = request.headers.getlist("host")
    host, own = host_named(sent), gateway.project.settings["server.host"].strip("[]").lower()
    if gateway.authenticator.asks or (host and host == own) or is_local(host):
        return
    raise InvalidRequest(
        f"expected the Host header to name this machine, found {', '.join(sent)[:64]!r}",
        hint="call the server as localhost or 127.0.0.1, or let it ask for keys (access.keys)",
    )


def principal_of(request: Request) -> Principal:
    """Who asks; `authenticated` has found out."""
    principal: Principal = request.state.principal
    return principal


def open_authenticator(settings: Settings, access: Access) -> Authenticator:
    """What the settings want of a request.

    Raises:
        InvalidSetting: they do not fit together.
    """
    keys = access.keys if settings["access.keys"] else None
    return Authenticator(access.policy, keys=keys, tokens=_tokens(settings, access))


def _tokens(settings: Settings, access: Access) -> Tokens | None:
    needed = {name: settings[f"access.{name}"] for name in ("issuer", "audience", "jwks")}
    if not any(needed.values()):
        return None
    if missing := [f"access.{name}" for name, value in needed.items() if not value]:
        raise InvalidSetting(
            f"tokens need access.issuer, access.audience and access.jwks; found no {' and no '.join(missing)}",
            hint="a token that is not checked for all three may have been made for somebody else",
        )
    claims = {f"{name}_claim": settings[f"access.{name}_claim"] for name in ("tenant", "user", "workspaces", "roles")}
    rules = TokenRules(
        needed["issuer"],
        needed["audience"],
        skew_seconds=settings["access.clock_skew_seconds"],
        roles=parse_roles(settings["access.roles"]),
        **claims,
    )
    keys = SigningKeys(
        key_source(needed["jwks"], settings.root),
        lifetime_seconds=settings["access.jwks_seconds"],
        retry_seconds=settings["access.jwks_retry_seconds"],
    )
    return Tokens(rules, keys, access.policy)
