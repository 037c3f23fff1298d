from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from quire.registry import Registry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed registry to copy: migrating is tested on its own and would cost every other test its time."""
    path = tmp_path_factory.mktemp("registry") / "empty.db"
    Registry.open(path).close()
    return path


@pytest.fixture
def registry(path: Path, empty_registry: Path) -> Iterator[Registry]:
    shutil.copy(empty_registry, path)
    with Registry.open(path) as opened:
        yield opened
        assert opened.integrity() == []
