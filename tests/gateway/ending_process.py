"""Processes that end while the engine computes, again and again: a program that imports once, and forks each time.

Each child leaves by returning from `main`, so that its interpreter is torn down as that of any program. Prints a JSON
list: the exit code of each round, negative for a signal.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO

import httpx
import transformers.models.llama.modeling_llama  # noqa: F401 - once for all rounds

from quire.cli.opening import silence_libraries
from quire.core import Turn
from quire.gateway import serve
from quire.project import open_project

TOKENS = 1500  # more than are computed before the end


def served(root: Path, said: IO[str]) -> None:
    """`quire serve`, told to end twice."""
    with open_project(root) as project:
        serve(project, port=0, ready=lambda url: print(url, file=said, flush=True))


def left_open(root: Path, said: IO[str]) -> None:
    """A program that asks, and neither waits nor closes."""
    project = open_project(root)
    for _ in range(3):
        project.chat([Turn("user", "What?")], module="prices", max_tokens=TOKENS, ignore_eos=True)
    print("asked", file=said, flush=True)


def interrupted(root: Path, said: IO[str]) -> None:
    """A program that waits for its answer, as `quire ask` does, told to end twice."""
    with open_project(root) as project:
        answer = project.chat([Turn("user", "What?")], module="prices", max_tokens=TOKENS, ignore_eos=True)
        print("asked", file=said, flush=True)
        answer.text()


PROGRAMS = {"served": served, "left_open": left_open, "interrupted": interrupted}


def begin_stream(client: httpx.Client) -> httpx.Response:
    messages = [{"role": "user", "content": "What does a bolt cost?"}]
    body = {"model": "quire", "messages": messages, "max_tokens": TOKENS, "ignore_eos": True, "stream": True}
    response = client.send(client.build_request("POST", "/v1/chat/completions", json=body), stream=True)
    response.iter_lines().__next__()
    return response


def main() -> None:
    root, way, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    silence_libraries()
    codes = []
    for number in range(rounds):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            with os.fdopen(writing, "w") as said:
                PROGRAMS[way](root, said)
            return
        os.close(writing)
        with os.fdopen(reading) as said, httpx.Client(timeout=60) as client:
            url = said.readline().strip()
            if way == "served":
                client.base_url = httpx.URL(url)
                stream = begin_stream(client)
            for wait in (0.0, (number % 5) * 0.02) if way != "left_open" else ():
                time.sleep(wait)
                os.kill(child, (signal.SIGTERM, signal.SIGINT)[number % 2])
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            if way == "served":
                stream.close()
    print(json.dumps(codes))


if __name__ == "__main__":
    main()
