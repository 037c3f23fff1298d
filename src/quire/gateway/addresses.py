"""Which names and addresses can only mean this machine."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?")


def host_named(sent: Sequence[str]) -> str:
    """The host of a request's Host headers, in lower case; "" unless there is one, and it is well-formed.

    Starlette takes the socket's own address for a header that it cannot read, which is this machine whoever asks.
    """
    found = AUTHORITY.fullmatch(sent[0]) if len(sent) == 1 else None
    return (found[1] or found[2]).lower() if found else ""


def is_local(host: str) -> bool:
    """Whether `host`, a name or an address, is loopback."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
