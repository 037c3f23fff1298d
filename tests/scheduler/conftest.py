from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quire import Project, open_project

from .driving import Passes


@pytest.fixture(scope="package")
def project(built_shop: Path) -> Iterator[Project]:
    """The built shop, opened once; tests leave it as it was."""
    with open_project(built_shop) as opened:
        yield opened


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    """Every forward pass of the engine goes through this."""
    watched = Passes()
    monkeypatch.setattr("quire.engine.local.forward", watched)
    return watched
