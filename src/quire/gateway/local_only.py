"""Without authentication, only programs on this machine may ask.

Listening on loopback keeps other machines out, but not the pages in this machine's browser: a page may let its own
host name point to 127.0.0.1 and then read our answers. Its requests still carry that name as their host.
"""

from __future__ import annotations

import ipaddress

from starlette.requests import Request

from quire.errors import InvalidRequest
from quire.gateway.gateway import Gateway


async def local_only(request: Request) -> None:
    """Raises InvalidRequest for a request to a foreign host name, unless `server.allow_unauthenticated`."""
    gateway: Gateway = request.app.state.gateway
    settings = gateway.project.settings
    host = request.url.hostname or ""
    if settings["server.allow_unauthenticated"] or host == settings["server.host"] or is_local(host):
        return
    raise InvalidRequest(
        f"expected the Host header to name this machine, found {host[:64]!r}",
        hint="call the server as localhost or 127.0.0.1, or set server.allow_unauthenticated",
    )


def is_local(host: str) -> bool:
    """Whether `host`, a name or an address, can only mean this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
