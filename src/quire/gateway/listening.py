"""The socket that a server listens on, and what becomes of connections while there are no descriptors for them."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from quire.descriptors import sockets_most
from quire.errors import InvalidSetting, lack_of
from quire.telemetry import fields

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

SAY_AGAIN_SECONDS = 10.0
PAUSE_SECONDS = 0.01  # where not even a refusal is possible, so that nobody asks for connections without end
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s"
)
BODY = (
    b'{"error":{"message":"the server has no room for another connection: too much is in use at once. Hint: ask again '
    b'in a moment","type":"server_error","param":null,"code":"descriptors_exhausted"}}'
)


def listen(host: str, port: int, *, beyond_loopback: bool, make_room: Callable[[], int] = lambda: 0) -> socket.socket:
    """A listening socket. `make_room`: see `Listener`. Raises InvalidSetting."""
    if not 0 <= port <= 65535:
        raise InvalidSetting(
            f"server.port must be between 0 and 65535, found {port}", hint="choose another port; 0 means any free one"
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise InvalidSetting(
            f"server.host must be a name or address of this machine, found {host!r}: {error}", hint="e.g. 127.0.0.1"
        ) from error
    if not beyond_loopback and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise InvalidSetting(
            f"server.host is {host!r} ({address[0]}), which other machines can reach, and the server asks for no key",
            hint="let it ask for keys (access.keys = true, `quire keys create`) or for tokens (access.issuer), or "
            "listen on 127.0.0.1 behind a proxy that authenticates",
        )
    try:
        listener = Listener(family, kind, protocol, make_room)
    except OSError as error:
        raise lack_of(error, "a socket") or error from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait for old connections
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise InvalidSetting(
            f"cannot listen on server.host {host!r}, server.port {port}: {error.strerror}",
            hint="stop the program that uses the port, or choose another one; 0 means any free one",
        ) from error
    return listener


class Listener(socket.socket):
    """Accepts connections while there are descriptors to spare, and refuses them with 503 while there are none.

    Some are left for the requests of connections that were accepted: they read files. asyncio by itself takes the last
    one for a connection, then leaves others waiting, and tries again a thousand times a second without success.
    """

    def __init__(self, family: int, kind: int, protocol: int, make_room: Callable[[], int]) -> None:
        """`make_room`: gives descriptors back, if it can, and how many times."""
        super().__init__(family, kind, protocol)
        self._make_room = make_room
        self._spare: int | None = None
        self._said = float("-inf")  # monotonic seconds
        self._reserve()

    def accept(self) -> tuple[socket.socket, Any]:
        """Raises BlockingIOError where no connection waits, or the one that did was refused."""
        try:
            connection, address = super().accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            if self._closed_modules(error):
                return super().accept()
            self._refuse_by_spare()
            raise BlockingIOError(errno.EAGAIN, "refused") from error
        # The system gives the lowest number that is free: so many are in use.
        if connection.fileno() < sockets_most() or self._closed_modules(OSError(errno.EMFILE, "few are left")):
            return connection, address
        _refuse(connection)
        raise BlockingIOError(errno.EAGAIN, "refused")

    def close(self) -> None:
        self._release()
        super().close()

    def _refuse_by_spare(self) -> None:
        """The descriptor that is kept for this serves the refusal: another thread may take it meanwhile."""
        self._release()
        try:
            connection, _ = super().accept()
        except OSError:
            time.sleep(PAUSE_SECONDS)
        else:
            _refuse(connection)
        self._reserve()

    def _closed_modules(self, error: OSError) -> int:
        """Close idle modules, say now and then why, and give how many."""
        closed = self._make_room()
        if (now := time.monotonic()) - self._said >= SAY_AGAIN_SECONDS and (lack := lack_of(error, "a connection")):
            self._said = now
            log.error("no room for a connection", extra=fields(why=lack.message, hint=lack.hint, closed_modules=closed))
        return closed

    def _reserve(self) -> None:
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _release(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None


def _refuse(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        connection.setblocking(False)
        connection.send(REFUSAL % (len(BODY), BODY))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1 << 16)  # what is unread when it is closed would take the refusal from the caller
