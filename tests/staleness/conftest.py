"""A shop whose modules are live, to change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Edit = Callable[[str, str], None]


@pytest.fixture
def edit(shop: Path) -> Edit:
    """A function that replaces a text in the shop's quire.toml, once."""

    def replace(old: str, new: str) -> None:
        file = shop / "quire.toml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    return replace
