"""A TCP proxy that does to a connection what networks do: cut it, slow it down, stop it, change a byte.

A fault happens to what the server sends, or to what the client does, once so many bytes of it have gone by on a
connection, and as often as it is told to. Small messages pass below that, so that it is the data that is hit.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass
from typing import Literal

BUFFER = 1 << 16
ALWAYS = 1 << 30


@dataclass
class Fault:
    """`after`: bytes of one connection. `times`: how many connections it happens to."""

    kind: Literal["cut", "stall", "flip"]
    after: int = 200_000
    times: int = ALWAYS
    of: Literal["server", "client"] = "server"


class Proxy:
    """Between a client and the server at `address`. `sent`, `received`: bytes by the client and by the server."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.endpoint = "http://{}:{}".format(*self._listener.getsockname())
        self.fault: Fault | None = None
        self.bytes_per_second = 0
        self.down = False  # connections are closed as soon as they are made
        self.answer = b""  # what every request gets instead of the server's
        self.sent = self.received = self.connections = 0
        self.heard = b""  # what clients said, up to some length
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def forget(self) -> None:
        """Count from 0 again."""
        with self._lock:
            self.sent = self.received = self.connections = 0
            self.heard = b""

    def cut_all(self) -> None:
        """End every connection there is, as when the service goes."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            _end(connection)

    def close(self) -> None:
        self._listener.close()
        self.cut_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.down:
                client.close()
                continue
            with self._lock:
                self.connections += 1
            server = socket.create_connection(self._address)
            with self._lock:
                self._open |= {client, server}
            if self.answer:
                threading.Thread(target=self._reply, args=(client, server), daemon=True).start()
                continue
            for source, to, name in ((client, server, "client"), (server, client, "server")):
                threading.Thread(target=self._pump, args=(source, to, name), daemon=True).start()

    def _reply(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while client.recv(BUFFER):
                client.sendall(self.answer)
        except OSError:
            pass
        self._forget(client, server)

    def _pump(self, source: socket.socket, to: socket.socket, name: str) -> None:
        passed, faulty = 0, False
        try:
            while data := source.recv(BUFFER):
                self._count(name, data)
                if not faulty and (fault := self._due(name, passed + len(data))):
                    faulty = True
                    if fault.kind == "cut":
                        break
                    if fault.kind == "stall":
                        time.sleep(600)
                    data = data[:-1] + bytes([data[-1] ^ 0x10])
                passed += len(data)
                if self.bytes_per_second:
                    time.sleep(len(data) / self.bytes_per_second)
                to.sendall(data)
        except OSError:
            pass
        self._forget(source, to)

    def _due(self, name: str, passed: int) -> Fault | None:
        with self._lock:
            fault = self.fault
            if fault is None or fault.of != name or passed < fault.after or not fault.times:
                return None
            fault.times -= 1
            return fault

    def _count(self, name: str, data: bytes) -> None:
        with self._lock:
            if name == "client":
                self.sent += len(data)
                self.heard = (self.heard + data)[:BUFFER]
            else:
                self.received += len(data)

    def _forget(self, *connections: socket.socket) -> None:
        with self._lock:
            self._open -= set(connections)
        for connection in connections:
            _end(connection)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
