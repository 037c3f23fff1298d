"""Where a server may listen."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from quire import open_project
from quire.errors import InvalidSetting
from quire.gateway import serve
from quire.gateway.listening import listen


def test_a_port_in_use(shop: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, open_project(shop) as project:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidSetting, match=f"cannot listen on .* server.port {port}: Address already in use"):
            serve(project, host="127.0.0.1", port=port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_no_such_port(port: int) -> None:
    with pytest.raises(InvalidSetting, match="between 0 and 65535"):
        listen("127.0.0.1", port, beyond_loopback=False)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "not a host", "x" * 300, "\u2603.invalid"])
def test_no_such_host(host: str) -> None:
    with pytest.raises(InvalidSetting, match=r"server\.host"):
        listen(host, 0, beyond_loopback=False)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(InvalidSetting, match="cannot listen"):
        listen("192.0.2.1", 0, beyond_loopback=True)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::"])
def test_beyond_loopback_only_when_allowed(host: str) -> None:
    with pytest.raises(InvalidSetting, match="other machines can reach"):
        listen(host, 0, beyond_loopback=False)


def test_every_interface_when_allowed() -> None:
    with listen("0.0.0.0", 0, beyond_loopback=True) as listener:
        assert listener.getsockname()[1] > 0


def test_loopback_by_name() -> None:
    with listen("localhost", 0, beyond_loopback=False) as listener:
        assert listener.getsockname()[1] > 0
