from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quire.registry import Registry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    with Registry.open(path) as opened:
        yield opened
        assert opened.integrity() == []
