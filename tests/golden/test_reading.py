"""What a person writes into a golden file is read as meant, or refused with a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from quire.core import ModuleSpec, Scope
from quire.errors import InvalidSetting
from quire.golden import Expectation, GoldenFile, GoldenQuestion, Suite, read_file, suite_of

EVERYTHING = """
allowed_failures: {hard: 2, total: 1}
max_tokens: 48
questions:
- question: How long?
  contains: [30 days, return]
  not_contains: 60 days
  tags: [returns, hard]
- {question: "How much?", numeric: {value: 11, tolerance: 0.5}, max_tokens: 8}
- {question: "Where?", regex: 'Pier\\s+Road', exact: "Pier Road 7"}
- {question: "When?", f1: {text: Tuesday to Saturday, at_least: 0.6}, numeric: -3}
"""


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "billing.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_key_is_read(tmp_path: Path) -> None:
    assert read_file(file(tmp_path, EVERYTHING), "golden/billing.yaml") == GoldenFile(
        "golden/billing.yaml",
        (
            GoldenQuestion(
                "How long?",
                (
                    Expectation("contains", "30 days"),
                    Expectation("contains", "return"),
                    Expectation("not_contains", "60 days"),
                ),
                ("returns", "hard"),
                48,
            ),
            GoldenQuestion("How much?", (Expectation("numeric", 11.0, 0.5),), (), 8),
            GoldenQuestion(
                "Where?", (Expectation("regex", r"Pier\s+Road"), Expectation("exact", "Pier Road 7")), (), 48
            ),
            GoldenQuestion(
                "When?", (Expectation("numeric", -3.0), Expectation("f1", "Tuesday to Saturday", 0.6)), (), 48
            ),
        ),
        1,
        (("hard", 2),),
    )


def test_a_suite_survives_its_document(tmp_path: Path) -> None:
    suite = Suite((read_file(file(tmp_path, EVERYTHING)),))
    again = Suite.parse(suite.document)
    assert (again, again.checksum, len(again)) == (suite, suite.checksum, 4)


def test_comments_do_not_make_another_suite_and_words_do(tmp_path: Path) -> None:
    one = Suite((read_file(file(tmp_path, "- {question: a, contains: b}")),)).checksum
    assert Suite((read_file(file(tmp_path, "# why\nquestions: [{question: a, contains: b}]")),)).checksum == one
    assert Suite((read_file(file(tmp_path, "- {question: a, contains: c}")),)).checksum != one


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no entries"),
        ("questions: []", "has no entries"),
        ("hello: 1", "unknown key 'hello'"),
        ("- nothing", "entry 1 .* is no mapping"),
        ("- {question: a, contain: b}", "unknown key 'contain'"),
        ("- {contains: b}", "question of entry 1"),
        ("- {question: a}", "expects nothing"),
        ("- {question: a, contains: 30}", "contains of entry 1 .* must be texts, found 30"),
        ("- {question: a, contains: []}", "must be a text or several"),
        ("- {question: a, regex: '('}", "regex of entry 1"),
        ("- {question: a, regex: 'a(?=b)'}", r"regex of entry 1.*looks ahead"),
        ("- {question: a, numeric: much}", "must be a number, found 'much'"),
        ("- {question: a, numeric: .nan}", "must be a number"),
        ("- {question: a, numeric: {value: 1, range: 2}}", "unknown key 'range'"),
        ("- {question: a, numeric: {value: 1, tolerance: -2}}", "must be 0 or more, found -2"),
        ("- {question: a, f1: b}", "is no mapping"),
        ("- {question: a, f1: {text: b}}", "must have text and at_least"),
        ("- {question: a, f1: {text: b, at_least: 2}}", "share above 0"),
        ("- {question: a, contains: b, max_tokens: 0}", "from 1 to 4096, found 0"),
        ("- {question: a, contains: b, tags: hard}", "tags of entry 1"),
        ("allowed_failures: many\nquestions: [{question: a, contains: b}]", "must be a count"),
        ("allowed_failures: {hard: 1}\nquestions: [{question: a, contains: b}]", "the tag 'hard', which no question"),
        ("questions: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_has_a_name(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidSetting, match=says) as found:
        read_file(file(tmp_path, text))
    assert found.value.hint


def test_a_module_is_tested_with_the_files_it_names_or_the_one_of_its_name(tmp_path: Path) -> None:
    def spec(name: str, *files: str) -> ModuleSpec:
        return ModuleSpec(name, ("x.md",), None, name, "local", Scope("public"), golden=files)

    golden = tmp_path / "golden"
    golden.mkdir()
    for name in ("billing", "routes", "more"):
        (golden / f"{name}.yaml").write_text(f"- {{question: {name}, contains: b}}")
    asked = suite_of(tmp_path, spec("billing"))
    assert asked
    assert [one.name for one in asked.files] == ["golden/billing.yaml"]
    both = suite_of(tmp_path, spec("billing", "golden/more.yaml", "golden/billing.yaml"))
    assert both
    assert [one.questions[0].question for one in both.files] == ["more", "billing"]
    assert suite_of(tmp_path, spec("shipping")) is None
    assert suite_of(tmp_path, spec("routes")) is None, "that file says where questions go"
    with pytest.raises(InvalidSetting, match="cannot read"):
        suite_of(tmp_path, spec("billing", "golden/gone.yaml"))


def test_a_part_by_tags(tmp_path: Path) -> None:
    suite = Suite((read_file(file(tmp_path, EVERYTHING)),))
    assert [q.question for f in suite.only(frozenset({"hard"})).files for q in f.questions] == ["How long?"]
    assert len(suite.only(frozenset({"nothing"}))) == 0
