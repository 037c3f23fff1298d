from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quire.registry import Registry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a SQLite file may be made, for what is about the file."""
    return tmp_path / "registry.db"


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed registry in SQLite to copy."""
    path = tmp_path_factory.mktemp("registry") / "empty.db"
    Registry.open(path).close()
    return path


@pytest.fixture
def registry(place: str) -> Iterator[Registry]:
    """One without modules, in which nothing is wrong at the end."""
    with Registry.open(place) as opened:
        yield opened
        assert opened.integrity() == []
