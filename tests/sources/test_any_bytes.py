"""Any bytes under any name give a document or a SourceError, twice the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quire.errors import SourceError
from quire.sources import Document, canonicalize, read_source

from .pdf_files import pdf

NAMES = ["a.md", "a.txt", "a.html", "a.json", "a.yaml", "a.py", "unknown"]
SEEDS = [
    "---\nx: [1, &a b, *a]\n---\n# h\n```\n",
    '{"openapi": "3.0.0", "info": {"title": "t"}, "paths": {"/a": {"get": {"responses": {"200": {}}}}}}',
    "openapi: 3.0.0\ninfo: {title: t}\ncomponents: {schemas: {A: {allOf: [{type: [array]}]}}}\n",
    "<html><main><p>x<li>y<ol start=2><table><td colspan=2>z</table><pre>q</pre></main></html>",
]
pieces = st.sampled_from(
    ["{", "}", "[", "]", '"', ":", ",", "-", "\n", " ", "&", "*", "<", ">", "&#", "```", "\0", "é"]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    seed = draw(st.sampled_from(SEEDS))
    at, length = draw(st.integers(0, len(seed))), draw(st.integers(0, 20))
    inside = draw(st.one_of(st.text(max_size=5), st.lists(pieces, max_size=5).map("".join)))
    return (seed[:at] + inside + seed[at + length :]).encode("utf-8", "surrogatepass")


def outcome(path: Path) -> Document | str:
    try:
        return read_source(path)
    except SourceError as error:
        return str(error)


def check(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    first = outcome(path)
    assert outcome(path) == first
    if isinstance(first, Document):
        assert first.text == canonicalize(first.text)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(), damaged(), st.text().map(lambda t: t.encode("utf-8", "surrogatepass"))))
def test_any_bytes_give_a_document_or_a_source_error(tmp_path: Path, name: str, content: bytes) -> None:
    check(tmp_path / name, content)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 1500), inside=st.binary(max_size=30), length=st.integers(0, 200))
def test_a_damaged_pdf_gives_a_document_or_a_source_error(tmp_path: Path, at: int, inside: bytes, length: int) -> None:
    good = pdf("First page", "Second page", title="T")
    check(tmp_path / "a.pdf", good[:at] + inside + good[at + length :])


def test_bytes_of_every_value_are_refused_by_name(tmp_path: Path) -> None:
    for name in [*NAMES, "a.pdf"]:
        (tmp_path / name).write_bytes(bytes(range(256)))
        with pytest.raises(SourceError, match=name):
            read_source(tmp_path / name)
