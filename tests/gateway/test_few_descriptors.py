"""A server with fewer descriptors than modules and callers answers all of them, or says what it lacks."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from services.s3 import KEY, S3, SECRET

from quire import open_project

from .process import eventually

LIMIT = 256
MODULES = LIMIT + 20
FEW = 64
SOME = FEW * 3 // 4  # more than half of FEW, which is what modules get
SECONDS = 120


class Few:
    """`quire serve` as an operator starts it, after `ulimit -n`: it cannot raise its limit."""

    def __init__(self, root: Path, limit: int, environment: Mapping[str, str]) -> None:
        self._log = root / "server.log"
        command = [sys.executable, "-m", "quire", "serve", "--port", "0", "--project", str(root)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", f'ulimit -n {limit}; exec "$@"', "bash", *command],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            )
        assert self._process.stdout
        said = self._process.stdout.readline()
        found = re.search(r"http://[0-9.]+:([0-9]+)", said)
        assert found, self._log.read_text()
        self.port = int(found[1])
        none_kept = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(base_url=found[0], timeout=SECONDS, limits=none_kept)

    def ask(self, number: int) -> tuple[int, str | None]:
        """Status and code of an answer of module `number`, over a connection of its own."""
        asked = {"model": "quire", "max_tokens": 1, "messages": [{"role": "user", "content": "What?"}]}
        body = {**asked, "quire": {"module": f"m{number}"}}
        response = self._http.post("/v1/chat/completions", json=body)
        if response.status_code == 503:
            assert response.headers["retry-after"] == "1"
        return response.status_code, response.json().get("error", {}).get("code")

    def ready(self) -> tuple[int, str | None]:
        response = self._http.get("/readyz")
        value: dict[str, Any] = response.json()
        return response.status_code, value.get("code") or value.get("error", {}).get("code")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def errors(self) -> list[str]:
        return [line for line in self._log.read_text().splitlines() if " error " in line]

    def end(self) -> None:
        self._http.close()
        self._process.terminate()
        self._process.communicate(timeout=SECONDS)


@contextmanager
def serving(root: Path, limit: int, **environment: str) -> Iterator[Few]:
    server = Few(root, limit, environment)
    try:
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, write_project: Callable[..., Path]) -> Path:
    """More modules than a server may have files open."""
    sources = {f"m{number}": f"Item {number} costs {number} pounds." for number in range(MODULES)}
    root = write_project(tmp_path_factory.mktemp("many") / "project", sources)
    with open_project(root) as project:
        project.build()
    return root


@pytest.mark.slow
def test_all_modules_answer_in_turn_and_again(many: Path) -> None:
    with serving(many, LIMIT) as server:
        for _ in range(2):
            said = {server.ask(number) for number in range(MODULES)}
            assert said == {(200, None)}
            assert server.ready() == (200, None)
            assert server.descriptors() < LIMIT * 3 // 4, "sockets, databases and files have room"
        assert server.errors() == []


@pytest.mark.slow
def test_more_callers_than_descriptors(many: Path) -> None:
    """They are refused or served, the server rests, and afterwards all is as before."""
    with serving(many, FEW) as server:
        assert {server.ask(number) for number in range(SOME)} == {(200, None)}
        usual = server.descriptors()
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2 * FEW)]
        try:
            assert server.ask(0) == (503, "descriptors_exhausted")
            assert server.ready() == (503, "descriptors_exhausted")
            before = server.processor_seconds()
            time.sleep(2)
            assert server.processor_seconds() - before < 1, "nobody asks again and again"
        finally:
            for connection in silent:
                connection.close()
        assert eventually(lambda: server.descriptors() <= usual), "the server has seen that they are gone"
        assert {server.ask(number) for number in range(SOME)} == {(200, None)}
        assert server.ready() == (200, None)
        assert len(server.errors()) < 2 * FEW, "it is said now and then"


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    code = (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (64, 128))\n"
        "from quire.descriptors import *; raise_limit(); print(*r.getrlimit(r.RLIMIT_NOFILE), for_modules())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["128", "128", "64"]


@pytest.mark.services
def test_good_copies_stay_where_they_are(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an object store at hand, from which a damaged copy would be replaced."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("HOME", str(tmp_path))
    s3 = S3()
    try:
        root = Path(shutil.copytree(many, tmp_path / "project"))
        toml = root / "quire.toml"
        place = json.dumps(f"s3://{s3.bucket()}/quire")
        toml.write_text(f"[store]\nurl = {place}\nendpoint = {json.dumps(s3.endpoint)}\n" + toml.read_text())
        with open_project(root) as project:
            live = [project.registry.live(f"m{number}") for number in range(SOME)]
            project.share(live)
        with serving(root, FEW) as server:
            for _ in range(2):
                assert {server.ask(number) for number in range(SOME)} == {(200, None)}
            shutil.rmtree(root / ".quire" / "artifacts" / live[0].digest.replace(":", "-"))
            assert server.ask(0)[0] == 200, "fetched with the descriptors of idle modules"
        assert list((root / ".quire").glob("damaged/*")) == []
    finally:
        s3.stop()
