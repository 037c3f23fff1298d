"""`quire serve`: starts, answers, stops when it is told to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import httpx

from .conftest import MakeProject, Quire


def test_the_server_says_where_it_listens_and_stops_on_sigterm(quire: Quire, project: MakeProject) -> None:
    root = project({"prices": "A bolt costs 3 pounds."})
    assert quire("build", "--project", root).code == 0
    command = [sys.executable, "-c", "from quire.cli import main; main()", "serve", "--port", "0", "--json"]
    with subprocess.Popen([*command, "--project", str(root)], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = json.loads("".join(server.stdout.readline() for _ in range(3)))["url"]
            model = httpx.get(f"{url}/v1/models", timeout=60).json()["data"][0]["id"]
            asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
            answer = httpx.post(f"{url}/v1/chat/completions", json={**asked, "quire": {"module": "prices"}}, timeout=60)
            assert answer.json()["quire"]["module"] == "prices"
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=60) == 0
        finally:
            server.kill()


def test_a_port_that_cannot_be_had_is_named(quire: Quire, project: MakeProject) -> None:
    refused = quire("serve", "--host", "192.0.2.1", "--project", project({"prices": "A bolt costs 3 pounds."}))
    assert refused.code == 2
    assert "192.0.2.1" in refused.err
