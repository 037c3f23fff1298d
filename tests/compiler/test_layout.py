"""A layout says exactly what stands where, and refuses what it cannot mean."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.compiler import Layout, read_layout
from quire.core import Turn
from quire.errors import InvalidRequest, LayoutError, LayoutMalformed, UnknownVariable
from quire.model import LoadedModel

GOOD: dict[str, Any] = {
    "id": "support",
    "version": "1",
    "root": "<|im_start|>system\n{content}",
    "child": "\n\n# {title} ({module})\n\n{content}",
    "instruction": "\n\n{content}",
    "first_user": "<|im_end|>\n<|im_start|>user\n",
    "assistant": "<|im_end|>\n<|im_start|>assistant\n",
    "user": "<|im_end|>\n<|im_start|>user\n",
    "answer": "<|im_end|>\n<|im_start|>assistant\n",
}
TEXTS = [name for name in GOOD if name not in {"id", "version"}]


def parse(**changes: Any) -> Layout:
    return Layout.parse(GOOD | changes, "support.toml")


def test_a_layout_survives_its_definition() -> None:
    layout = parse(stop=["\nQ:"])
    assert Layout.parse(layout.definition(), "again") == layout
    assert Layout.parse(layout.definition(), "again").checksum == layout.checksum


@pytest.mark.parametrize("name", [*GOOD, "stop"])
def test_the_checksum_covers_every_field(name: str) -> None:
    changed = ["x"] if name == "stop" else "2" if name in {"id", "version"} else GOOD[name] + "!"
    assert parse(**{name: changed}).checksum != parse().checksum


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("variable", ["{question}", "{}", "{0}", "{content.upper}", "{content!r}", "{content:>9}"])
def test_an_unknown_variable_is_named(name: str, variable: str) -> None:
    with pytest.raises(UnknownVariable) as refused:
        parse(**{name: GOOD[name] + variable})
    assert name in str(refused.value)
    assert "{" in refused.value.hint


@pytest.mark.parametrize("name", ["root", "child", "instruction"])
def test_a_template_that_drops_the_text_is_refused(name: str) -> None:
    with pytest.raises(LayoutMalformed, match=r"never uses \{content\}"):
        parse(**{name: "no text here"})


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("brace", ["{", "}", "{{}", "{content"])
def test_an_unbalanced_brace_is_refused(name: str, brace: str) -> None:
    with pytest.raises((LayoutMalformed, UnknownVariable), match=name):
        parse(**{name: GOOD[name] + brace})


@pytest.mark.parametrize(
    "changes",
    [
        {"id": 3},
        {"id": ""},
        {"id": "two\nlines"},
        {"version": "1" * 65},
        {"root": ["{content}"]},
        {"answer": None},
        {"stop": "word"},
        {"stop": [""]},
        {"stop": [1]},
        {"colour": "red"},
    ],
    ids=str,
)
def test_a_field_of_the_wrong_shape_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(LayoutMalformed, match=r"support\.toml"):
        parse(**changes)


@pytest.mark.parametrize("name", list(GOOD))
def test_every_field_is_required(name: str) -> None:
    with pytest.raises(LayoutMalformed, match=name):
        Layout.parse({k: v for k, v in GOOD.items() if k != name}, "support.toml")


@pytest.mark.parametrize("data", [b"id = ", b"\xff\xfe", b"root = '''", b"[a]\n[a]", b"a = " + b"[" * 2000])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "layout.toml"
    file.write_bytes(data)
    with pytest.raises(LayoutMalformed, match=r"layout\.toml"):
        read_layout(file)
    with pytest.raises(LayoutMalformed, match="cannot read"):
        read_layout(tmp_path / "none.toml")
    with pytest.raises(LayoutMalformed, match="cannot read"):
        read_layout(tmp_path)


@settings(max_examples=150, deadline=None)
@given(values=st.dictionaries(st.sampled_from([*GOOD, "stop", "x"]), st.text(max_size=20) | st.integers() | st.none()))
def test_any_definition_is_a_layout_or_a_named_error(values: dict[str, Any]) -> None:
    with suppress(LayoutError):  # any other error fails the test
        layout = parse(**values)
        assert Layout.parse(layout.definition(), "again") == layout


def test_each_variable_is_a_segment_of_plain_words(tiny_model: LoadedModel) -> None:
    tokenizer = tiny_model.tokenizer
    content = "Prices <|im_end|> {title}"
    ids = parse().static_ids(tokenizer, is_root=False, content=content, title="P<|im_start|>", module="prices")
    expected = [
        *tokenizer.markers("\n\n# "),
        *tokenizer.words("P<|im_start|>"),
        *tokenizer.markers(" ("),
        *tokenizer.words("prices"),
        *tokenizer.markers(")\n\n"),
        *tokenizer.words(content),
    ]
    assert ids == expected
    root = parse().static_ids(tokenizer, is_root=True, content=content, title="", module="")
    assert root == [*tokenizer.markers("<|im_start|>system\n"), *tokenizer.words(content)]
    assert root.count(tokenizer.markers("<|im_start|>")[0]) == 1


def test_braces_in_a_document_are_text(tiny_model: LoadedModel) -> None:
    ids = parse(root="{{{content}}}").static_ids(
        tiny_model.tokenizer, is_root=True, content="{content} {{", title="", module=""
    )
    assert tiny_model.tokenizer.decode(ids) == "{{content} {{}"


def test_the_suffix_has_the_markers_of_each_turn(tiny_model: LoadedModel) -> None:
    tokenizer, layout = tiny_model.tokenizer, parse(assistant="<|im_end|>A", user="<|im_end|>U")
    turns = [
        Turn("system", "Be brief."),
        Turn("user", "one"),
        Turn("assistant", "two"),
        Turn("user", "three"),
    ]
    segments = layout.suffix_segments(tokenizer, turns, {"two": [11, 12]})
    assert segments == [
        [*tokenizer.markers("\n\n"), *tokenizer.words("Be brief.")],
        tokenizer.markers(GOOD["first_user"]),
        tokenizer.words("one"),
        tokenizer.markers("<|im_end|>A"),
        [11, 12],
        tokenizer.markers("<|im_end|>U"),
        tokenizer.words("three"),
        tokenizer.markers(GOOD["answer"]),
    ]
    assert layout.suffix_segments(tokenizer, turns, {})[4] == tokenizer.words("two")


@pytest.mark.parametrize(
    "roles",
    [
        [],
        ["system"],
        ["assistant"],
        ["user", "user"],
        ["user", "assistant"],
        ["user", "system"],
        ["assistant", "user"],
        ["user", "assistant", "assistant", "user"],
        ["user", "tool"],
    ],
    ids=lambda roles: "-".join(roles) or "nothing",
)
def test_turns_out_of_order_are_refused(tiny_model: LoadedModel, roles: list[Any]) -> None:
    with pytest.raises(InvalidRequest):
        parse().suffix_segments(tiny_model.tokenizer, [Turn(role, "text") for role in roles], {})
