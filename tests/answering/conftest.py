from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quire import Project, open_project


@pytest.fixture(scope="module")
def open_shop(built_shop: Path) -> Iterator[Project]:
    """The built shop, opened once; tests leave it as it was."""
    with open_project(built_shop) as project:
        yield project
