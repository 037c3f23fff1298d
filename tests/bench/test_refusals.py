"""What cannot be measured is refused by name, before the long work begins, and cleaned up after."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quire.bench.command import bench
from quire.bench.document import read_subject
from quire.bench.options import SECTIONS, parse_sections
from quire.bench.processes import Child
from quire.errors import (
    DocumentTooLong,
    InvalidSetting,
    MeasurementFailed,
    ModelNotFound,
    QuireError,
    SourceMalformed,
    SourceNotFound,
    StoreError,
)


def refused(*arguments: str) -> QuireError:
    """The error of `quire bench restore` with these arguments."""
    result = CliRunner().invoke(bench, ["restore", *arguments])
    assert isinstance(result.exception, QuireError), result.output
    assert result.exception.hint
    return result.exception


def test_a_section_that_is_none_is_refused_with_those_there_are() -> None:
    error = refused("--only", "open,warmth")
    assert isinstance(error, InvalidSetting)
    assert "warmth" in error.message
    assert all(name in error.hint for name in SECTIONS)


def test_sections_run_in_their_own_order_and_all_by_default() -> None:
    assert parse_sections("decode, open") == ["open", "decode"]
    assert parse_sections("") == list(SECTIONS)


def test_a_document_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert isinstance(refused("--document", str(tmp_path / "none.md")), SourceNotFound)


def test_an_article_that_is_not_there_is_refused_with_those_there_are(squad: Path) -> None:
    error = refused("--document", str(squad), "--article", "Normans")
    assert isinstance(error, InvalidSetting)
    assert "Ostrel_Head" in error.hint


def test_a_document_beyond_the_context_is_refused_and_nothing_stays(tmp_path: Path, tiny_model_dir: Path) -> None:
    document, work = tmp_path / "long.md", tmp_path / "work"
    document.write_text("A keeper winds the clockwork every four hours. " * 500, encoding="utf-8")
    work.mkdir()
    arguments = ("--model", str(tiny_model_dir), "--document", str(document), "--work", str(work), "--threads", "1")
    assert isinstance(refused(*arguments), DocumentTooLong)
    assert list(work.iterdir()) == []


def test_a_model_that_is_not_there_is_refused(squad: Path) -> None:
    assert isinstance(refused("--document", str(squad), "--model", "./no-such-model"), ModelNotFound)


def test_a_report_that_could_not_be_written_is_refused_at_once(tmp_path: Path) -> None:
    assert isinstance(refused("--json", str(tmp_path / "none" / "report.json")), StoreError)


def test_a_work_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert isinstance(refused("--work", str(tmp_path / "none")), StoreError)


@pytest.mark.parametrize("content", ["{", '{"data": [{"title": "A"}]}', '{"data": [7]}'])
def test_a_damaged_squad_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "squad.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(SourceMalformed):
        read_subject(file, None, 5, tmp_path)


def test_damaged_questions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# Page\n\nText.\n", encoding="utf-8")
    (tmp_path / "page.questions.toml").write_text("[[question]]\nanswers = []\n", encoding="utf-8")
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(SourceMalformed, match="text"):
        read_subject(tmp_path / "page.md", None, 5, work)


def test_questions_are_different_and_spread_over_the_document(tmp_path: Path, squad: Path) -> None:
    subject = read_subject(squad, None, 2, tmp_path)
    assert subject.name == "Ostrel_Head"
    assert subject.questions == ("How high is the tower?", "What was it built of?")
    assert len(read_subject(squad, None, 100, tmp_path).questions) == 4


def test_an_interruption_ends_the_processes_at_once() -> None:
    sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    with pytest.raises(KeyboardInterrupt), Child("sleeper", command=sleeper) as process:
        raise KeyboardInterrupt
    assert not Path(f"/proc/{process.pid}").exists()


def test_json_that_is_no_squad_file_is_a_document_like_any_other(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"bolt": 3}), encoding="utf-8")
    work = tmp_path / "work"
    work.mkdir()
    subject = read_subject(file, None, 2, work)
    assert subject.source.read_bytes() == file.read_bytes()
    assert len(subject.questions) == 2


def test_a_process_that_refuses_or_dies_is_reported_and_ended(tmp_path: Path) -> None:
    with Child("quire.bench.shared_mapping") as process:
        with pytest.raises(MeasurementFailed, match="expected an artifact directory"):
            process.ask({"artifact": str(tmp_path / "none"), "digest": "b3:" + "0" * 64})
        pid = process.pid
    assert not Path(f"/proc/{pid}").exists()
    with Child("quire.bench.no_such_module") as process, pytest.raises(MeasurementFailed, match="No module named"):
        process.ask({})
