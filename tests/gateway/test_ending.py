"""However a process ends, and however often it is told to: no crash, nothing that waits, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx
import pytest
from services.ports import free_port

from .process import PROCESSES, eventually
from .serving_process import run_fetching, run_until_told

ENDING = Path(__file__).with_name("ending_process.py")
AS_USUAL = {-signal.SIGTERM, -signal.SIGINT, 0, 130}  # by the signal that was sent, or by its own will


@pytest.mark.slow
@pytest.mark.parametrize(("way", "rounds"), [("served", 20), ("left_open", 6), ("interrupted", 10)])
def test_no_process_crashes_at_its_end(shop: Path, way: str, rounds: int) -> None:
    """The engine computes in native code meanwhile, by which the interpreter must not be gone."""
    command = [sys.executable, str(ENDING), str(shop), way, str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    codes = json.loads(done.stdout.splitlines()[-1])
    expected = {"served": {0}, "left_open": {0}, "interrupted": AS_USUAL}[way]
    assert (len(codes), set(codes) - expected) == (rounds, set()), done.stderr


@contextmanager
def started(
    program: Callable[[Path, int, Path], None], root: Path, log: Path
) -> Iterator[tuple[BaseProcess, httpx.Client]]:
    """A process that serves `root`, and a client of it."""
    port = free_port()
    process = PROCESSES.Process(target=program, args=(root, port, log))
    process.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield process, client


def test_the_second_signal_ends_a_server_that_fetches(shop: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    question = {"model": "quire", "messages": [{"role": "user", "content": "What does a bolt cost?"}]}
    with started(run_fetching, shop, log) as (process, client):

        def ready() -> bool:
            with suppress(httpx.ConnectError):
                return client.get("/v1/models").status_code == 200
            return False

        assert eventually(ready, seconds=60)
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/chat/completions", json=question, timeout=1)
        began = time.monotonic()
        process.terminate()
        time.sleep(0.2)
        process.terminate()
        process.join(60)
    assert (process.exitcode, time.monotonic() - began < 30) == (0, True)
    assert log.read_text(encoding="utf-8").rstrip().endswith("stopped")


def test_sigterm_while_the_model_loads_ends_at_once(own_shop: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    """The model's weights come from a disk that does not answer: a pipe that nobody writes."""
    slow = tmp_path / "slow"
    shutil.copytree(tiny_model_dir, slow)
    (slow / "model.safetensors").unlink()
    os.mkfifo(slow / "model.safetensors")
    toml = own_shop / "quire.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace(str(tiny_model_dir), str(slow)), encoding="utf-8")
    log = tmp_path / "log"
    with started(run_until_told, own_shop, log) as (process, client):

        def code() -> str:
            try:
                return str(client.get("/readyz").json()["code"])
            except httpx.ConnectError:
                return ""

        assert eventually(lambda: code() == "engine_loading", seconds=60)
        began = time.monotonic()
        process.terminate()
        process.join(60)
    assert (process.exitcode, time.monotonic() - began < 20) == (0, True)
    assert log.read_text(encoding="utf-8").rstrip().endswith("stopped")
