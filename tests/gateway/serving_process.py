"""What runs in the process of a test's server: the same as under `quire serve`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from quire.cli.opening import silence_libraries
from quire.gateway import serve
from quire.project import open_project


def run(project: Path, environment: Mapping[str, str], log: Path, report: Connection) -> None:
    """Serve until told to stop. Reports the URL, and at the end (leases, waiting, running); stderr goes to `log`."""
    os.environ.update(environment)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
    silence_libraries()
    with open_project(project) as opened:
        serve(opened, port=0, ready=report.send)
        pool, load = opened.runtime.pool.state(), opened.runtime.scheduler.load()
        report.send((pool.leases, load.waiting, load.running))


def run_fetching(project: Path, port: int, log: Path) -> None:
    """`quire serve` with an object store that sends a module for ten minutes."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
    silence_libraries()
    with open_project(project) as opened:
        opened.runtime.pool.lease = lambda *_: time.sleep(600)  # type: ignore[method-assign,assignment]
        serve(opened, port=port)


def run_until_told(project: Path, port: int, log: Path) -> None:
    """`quire serve` on a port, with nothing reported."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
    silence_libraries()
    with open_project(project) as opened:
        serve(opened, port=port)
