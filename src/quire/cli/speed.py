"""How fast this machine compiles: remembered from the last build, or measured on a few tokens.

Prefill is a fixed number of operations per token, plus attention that grows with the chain; so tokens per second of one
model on one machine hardly change, and tokens divided by them is a fair estimate of the time.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from quire.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from quire.project import Project
    from quire.settings import Settings

SPEED_FILE = "speed.json"
SAMPLE_TOKENS = 256


def recall_speed(settings: Settings, fingerprint: str) -> float | None:
    """Tokens per second of the last build with this model and these settings; None before the first."""
    speed = _read(settings.state / SPEED_FILE).get(_configuration(settings, fingerprint))
    return float(speed) if isinstance(speed, int | float) and speed > 0 else None


def measure_speed(project: Project) -> float:
    """Tokens per second of prefill, on a sample. Loads the model; the first pass warms up and is not counted."""
    from quire.model import prefill

    model = project.model
    sample = [1] * SAMPLE_TOKENS
    prefill(model, (), model.new_kv(), sample[:16], SAMPLE_TOKENS)
    began = time.perf_counter()
    prefill(model, (), model.new_kv(), sample, SAMPLE_TOKENS)
    return SAMPLE_TOKENS / (time.perf_counter() - began)


def remember_speed(project: Project, tokens_per_second: float) -> None:
    """Keep a speed in the project's state directory. Mutates it.

    Raises:
        StoreFull, StoreUnwritable.
    """
    configuration = _configuration(project.settings, project.source.facts.fingerprint)
    file = project.settings.state / SPEED_FILE
    fresh = file.with_name(f"{SPEED_FILE}.{os.getpid()}")
    speeds = {**_read(file), configuration: round(tokens_per_second, 1)}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(speeds), encoding="utf-8")
        fresh.replace(file)
    except OSError as error:
        raise StoreError.from_os(error, file) from error


def _configuration(settings: Settings, fingerprint: str) -> str:
    return f"{fingerprint[:15]} {settings['model.device']} {settings['model.threads']}"


def _read(file: Path) -> dict[str, object]:
    try:
        speeds = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}  # an estimate is all that is lost
    return speeds if isinstance(speeds, dict) else {}
