"""Which names and addresses can only mean this machine."""

from __future__ import annotations

import ipaddress


def is_local(host: str) -> bool:
    """Whether `host`, a name or an address, is loopback."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
