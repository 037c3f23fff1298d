"""The pages of commands and settings say what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from quire.cli import main
from quire.cli.reference import MODULE_HELP, ROUTE_HELP, cli_page, commands, settings_page, write
from quire.errors import QuireError
from quire.gateway.figures import page as metrics_page
from quire.settings import MODULE_KEYS, ROUTE_KEYS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "page"), [("cli.md", cli_page), ("settings.md", settings_page), ("metrics.md", metrics_page)]
)
def test_the_page_is_up_to_date(name: str, page: object) -> None:
    assert callable(page)
    assert (DOCS / name).read_text(encoding="utf-8") == page(), "run `make docs`"


def test_every_command_has_help_and_json() -> None:
    for name, command in commands().items():
        assert command.help, name
        assert any("--json" in parameter.opts for parameter in command.params), name


def test_every_exit_code_has_a_row() -> None:
    def below(kind: type[QuireError]) -> set[type[QuireError]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    rows = re.findall(r"^\| (\d+) \|(.*)\|$", cli_page().split("## quire")[0], re.MULTILINE)
    for error in below(QuireError) - {QuireError}:
        told = [int(code) for code, names in rows if f"`{error.__name__}`" in names]
        assert told == [error.exit_code], error.__name__


@pytest.mark.parametrize(
    ("typed", "help_of"),
    [("nonsuch", "quire"), ("keys create ann --days 0", "quire keys create"), ("route nonsuch", "quire route")],
)
def test_a_wrong_argument_names_the_help_that_there_is(
    typed: str, help_of: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*typed.split(), "--json"])
    assert stopped.value.code == 2
    assert json.loads(capsys.readouterr().err)["error"]["hint"] == f"see {help_of} --help"


def test_a_working_directory_that_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SystemExit) as stopped:
        main(["ls"])
    assert stopped.value.code == 2
    assert "the working directory is gone" in capsys.readouterr().err


def test_every_key_of_a_module_is_explained() -> None:
    assert set(MODULE_HELP) == MODULE_KEYS
    assert set(ROUTE_HELP) == ROUTE_KEYS


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    assert len(write(tmp_path)) == 3
    assert write(tmp_path) == []
