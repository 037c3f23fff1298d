"""Quire's own regular expressions take time linear in the text, whatever a document, an answer or a header repeats."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import quire

SOURCE = Path(quire.__file__).parent
FLAGS = {name: getattr(re, name) for name in ("IGNORECASE", "MULTILINE", "DOTALL", "VERBOSE", "ASCII")}
METHODS = ("search", "match", "fullmatch", "findall", "finditer", "split", "sub")
PIECES = [
    *" \n\ta1_-.,:;/\\@<>()[]{}=~`#*+?&\"'!é\u2028",
    *(
        "](",
        "- ",
        "1. ",
        "a ",
        " \n",
        "\n\n",
        "\r\n",
        "://",
        "://a:",
        "http://",
        ",111",
        "1,111,",
        "1.1",
        "a.",
        "a/",
        "--",
    ),
    *(
        "](a",
        "[a]",
        "[a](",
        "![",
        "<a",
        "<a>",
        "</",
        "<!--",
        "``` ",
        "```a",
        "```\n",
        "- - ",
        "display:",
        "display ",
        "# ",
    ),
    *("openapi", "openapi ", "|-", "*a", "_a", "key: ", "?password", "status code: ", "status ", "\\u", "&#"),
]
LENGTH = 24_000
QUICK = 0.05  # seconds, some dozen times what a linear expression takes for that length
SHORT = {  # what is quadratic and never sees a long text
    "patterns/translating.py": "an expression that `re` has compiled: each bracket is closed",
    "sources/globbing.py": "a glob of quire.toml",
    "sources/headings.py": "a title, cut before",
}


def fixed_expressions() -> Iterator[tuple[str, re.Pattern[str], set[str]]]:
    """Each expression that stands in the source as a text, where, and by which methods it is run."""
    for file in sorted(SOURCE.rglob("*.py")):
        if str(file.relative_to(SOURCE)) in SHORT or "bench" in file.relative_to(SOURCE).parts:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        used: dict[str, set[str]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used.setdefault(node.value.id, set()).add(node.attr)
        names = {
            id(node.value): target.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            match node:
                case ast.Call(ast.Attribute(ast.Name("re"), method), [ast.Constant(str(text)), *_]):
                    flags = sum(FLAGS.get(a.attr, 0) for a in node.args if isinstance(a, ast.Attribute))
                    methods = {method} if method != "compile" else used.get(names.get(id(node), ""), set())
                    run = {name for name in METHODS if name in methods} or {"search"}
                    yield f"{file.relative_to(SOURCE)}:{node.lineno}", re.compile(text, flags), run


FIXED = list(fixed_expressions())


def test_they_are_found() -> None:
    assert len(FIXED) > 50
    assert any("fullmatch" in run for _, _, run in FIXED)


@pytest.mark.parametrize(("where", "expression", "run"), FIXED, ids=[where for where, _, _ in FIXED])
def test_a_fixed_expression_is_linear(where: str, expression: re.Pattern[str], run: set[str]) -> None:
    for piece in PIECES:
        for method in run:
            if (taken := seconds(expression, method, piece, LENGTH)) > QUICK:
                quarter = seconds(expression, method, piece, LENGTH // 4)
                assert taken < 9 * quarter, (where, expression.pattern, method, piece)


def seconds(expression: re.Pattern[str], method: str, piece: str, length: int) -> float:
    """Of the processor, for `piece` again and again."""
    text = f"{piece * (length // len(piece))}\x00"
    began = time.thread_time()
    found = expression.sub("", text) if method == "sub" else getattr(expression, method)(text)
    if method == "finditer":
        list(found)
    return time.thread_time() - began


@pytest.mark.parametrize("quadratic", [r"\]\([^)\s]*\)", "<[^>]*>[^<]*"])
def test_one_that_is_not_would_be_found(quadratic: str) -> None:
    with pytest.raises(AssertionError):
        test_a_fixed_expression_is_linear("before", re.compile(quadratic), {"sub"})
