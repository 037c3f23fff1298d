"""A PostgreSQL cluster of the tests' own. Debian: apt-get install postgresql."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import pytest

from .ports import free_port, wait_for_port

SPEED = ("fsync=off", "full_page_writes=off")  # nobody needs the data after a power cut; a killed server keeps it


class Postgres:
    """One server. PostgreSQL refuses to run as root: as root it runs as the user that Debian made for it."""

    def __init__(self) -> None:
        self._programs = _programs()
        self._home = Path(tempfile.mkdtemp(prefix="quire-postgres-", dir="/tmp"))
        self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if not os.getuid() else []
        if self._as_user:
            shutil.chown(self._home, "postgres", "postgres")
        self._data = self._home / "data"
        self.port = free_port()
        self._made = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", str(self._data), "-U", "quire", "--auth=trust", "--no-sync", "-E", "UTF8")
        self.start()

    def start(self) -> None:
        """Also after `kill`, on the same port and data."""
        options = [part for setting in SPEED for part in ("-c", setting)]
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *options]
        command += ["-c", f"unix_socket_directories={self._home}", "-c", "listen_addresses=127.0.0.1"]
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen([*self._as_user, *command], cwd=self._home, stdout=log, stderr=log)
        wait_for_port(self.port, self._process, self._home / "log")
        self._until_it_answers()

    def new_database(self, template: str = "template1") -> str:
        """The URL of a fresh copy of `template`, which nobody may be connected to."""
        self._made += 1
        name = f"t{self._made}_{uuid.uuid4().hex[:8]}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "quire", "-T", template, name)
        return f"postgresql://quire@127.0.0.1:{self.port}/{name}"

    def pause(self) -> None:
        """Every process of the server stops where it is: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a crash of the machine would."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._process = None
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def close(self) -> None:
        self.resume()
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # "immediate shutdown": it waits for no client
            self._process.wait(20)
        shutil.rmtree(self._home)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):  # one that served a connection, and ended with it
                os.kill(pid, number)

    def _pids(self) -> list[int]:
        """The server's process first, then those that it started."""
        if self._process is None:
            return []
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return [self._process.pid, *map(int, children)]

    def _until_it_answers(self) -> None:
        deadline = time.monotonic() + 30
        ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < deadline, (self._home / "log").read_text()
            time.sleep(0.05)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._programs / program), *arguments]
        done = subprocess.run(command, cwd=self._home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{program}: {done.stderr}"


def _programs() -> Path:
    """Debian keeps them out of the path, by version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[4]))
    if found:
        return found[-1].parent
    if on_path := shutil.which("postgres"):
        return Path(on_path).resolve().parent
    pytest.fail("there is no PostgreSQL server here: apt-get install postgresql")
