from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quire import Project, open_project


@pytest.fixture
def project(built_shop: Path) -> Iterator[Project]:
    """The built shop with a model of its own, so that a test may make its forward pass fail."""
    with open_project(built_shop) as opened:
        yield opened
