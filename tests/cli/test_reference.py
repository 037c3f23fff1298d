"""The pages of commands and settings say what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from quire.cli.reference import MODULE_HELP, ROUTE_HELP, cli_page, commands, settings_page, write
from quire.settings import MODULE_KEYS, ROUTE_KEYS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("name", "page"), [("cli.md", cli_page), ("settings.md", settings_page)])
def test_the_page_is_up_to_date(name: str, page: object) -> None:
    assert callable(page)
    assert (DOCS / name).read_text(encoding="utf-8") == page(), "run `make docs`"


def test_every_command_has_help_and_json() -> None:
    for name, command in commands().items():
        assert command.help, name
        assert any("--json" in parameter.opts for parameter in command.params), name


def test_every_key_of_a_module_is_explained() -> None:
    assert set(MODULE_HELP) == MODULE_KEYS
    assert set(ROUTE_HELP) == ROUTE_KEYS


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    assert len(write(tmp_path)) == 2
    assert write(tmp_path) == []
