"""A Redis server of the tests' own. Debian: apt-get install redis-server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path

import pytest

from quire.coordination import Redis, open_redis

from .ports import free_port, wait_for_port


class RedisServer:
    """Keeps nothing on disk: killed and started again, it is empty."""

    def __init__(self) -> None:
        self._program = shutil.which("redis-server")
        if self._program is None:
            pytest.fail("there is no Redis server here: apt-get install redis-server")
        self._home = Path(tempfile.mkdtemp(prefix="quire-redis-", dir="/tmp"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def runs(self) -> bool:
        return self._process is not None

    def connect(self, prefix: str | None = None) -> Redis:
        """A connection, with names of its own unless told otherwise."""
        return open_redis(self.url, prefix or f"test-{uuid.uuid4().hex[:8]}")

    def start(self) -> None:
        """Also after `kill`, on the same port."""
        command = [
            str(self._program),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._home, stdout=log, stderr=log)
        wait_for_port(self.port, self._process, self._home / "log")

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self._process:
            self._process.wait()
        self._process = None

    def close(self) -> None:
        self.resume()
        if self._process:
            self._process.terminate()
            self._process.wait(20)
        shutil.rmtree(self._home)

    def _signal(self, number: int) -> None:
        if self._process:
            os.kill(self._process.pid, number)
