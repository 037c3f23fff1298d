"""What each format becomes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quire.errors import SourceEmpty, SourceMalformed
from quire.sources import Document, read_source

from .pdf_files import pdf


def read(tmp_path: Path, name: str, content: str | bytes) -> Document:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_source(tmp_path / name, name=name)


def test_text_is_not_interpreted(tmp_path: Path) -> None:
    document = read(tmp_path, "a.txt", "---\nx: 1\n---\n<b>&amp;</b>\n")
    assert (document.text, document.title, document.metadata) == ("---\nx: 1\n---\n<b>&amp;</b>\n", None, {})


def test_html_is_what_a_visitor_reads(tmp_path: Path) -> None:
    page = """<!DOCTYPE html><html><head><title>Fees &amp; terms</title><style>p{}</style></head><body>
    <nav>Home</nav><main><h1>Fees</h1><!-- draft --><p>A <b>flat</b> fee of <a href="/eur">5 EUR</a>.<br>No VAT.
    <script>track()</script><p hidden>secret</p><span style="display: NONE">ghost</span>
    <ul><li>one<li>two<ul><li>deep</ul></ul>
    <table><tr><th>Plan<th>Fee<tr><td>S<td>1</table><img src="data:image/png;base64,AAAA" alt="A  chart">
    <pre><code class="language-sh">ls  -l\n  pwd</code></pre></main><footer>(c)</footer></body></html>"""
    document = read(tmp_path, "fees.html", page)
    assert document.title == "Fees & terms"
    assert document.text == (
        "# Fees\n\nA **flat** fee of [5 EUR](/eur).\nNo VAT.\n\n- one\n- two\n  - deep\n\n"
        "| Plan | Fee |\n| --- | --- |\n| S | 1 |\n\nA chart\n\n```sh\nls  -l\n  pwd\n```\n"
    )


@pytest.mark.parametrize(
    "page", ["</p></b><<<>>>x&&&;", "&#xD800;&#1; x", "<?xml version='1.0'?><r>x</r>", "x", "<p>x<p>"]
)
def test_html_of_garbage_is_read_as_browsers_do(tmp_path: Path, page: str) -> None:
    assert "x" in read(tmp_path, "a.html", page).text


@pytest.mark.parametrize(
    "page",
    ["<div>" * 5000 + "x", "<![x[", "&#" + "9" * 5000 + ";", '<ol start="²"><li>x</ol>', "<h" + "9" * 5000 + ">x"],
)
def test_html_that_cannot_be_read_is_named(tmp_path: Path, page: str) -> None:
    with pytest.raises(SourceMalformed, match=r"a\.html: expected HTML"):
        read(tmp_path, "a.html", page)


def test_pdf_is_read_page_by_page(tmp_path: Path) -> None:
    document = read(tmp_path, "a.pdf", pdf("First page\nsecond line", "", "Third page", title="Terms"))
    assert document.text == "# Terms\n\n## Page 1\n\nFirst page\nsecond line\n\n## Page 3\n\nThird page\n"
    assert (document.media, document.title) == ("pdf", "Terms")
    assert read(tmp_path, "b.pdf", pdf("Only page")).text == "Only page\n"


def test_pdf_of_images_asks_for_ocr(tmp_path: Path) -> None:
    with pytest.raises(SourceEmpty, match=r"2 page\(s\) without text") as caught:
        read(tmp_path, "scan.pdf", pdf("", ""))
    assert "ocrmypdf" in caught.value.hint


def test_pdf_that_does_not_open_says_why(tmp_path: Path) -> None:
    good = pdf("text")
    for content, problem in {
        b"hello": "does not begin with %PDF-",
        good[: len(good) // 2]: "truncated",
        b"%PDF-1.4\n" + b"\xfe" * 300 + b"\n%%EOF": "damaged",
        pdf("text", encrypted=True): "encrypted",
    }.items():
        with pytest.raises(SourceMalformed, match=problem):
            read(tmp_path, "a.pdf", content)


def test_code_stands_in_a_fence_under_its_path(tmp_path: Path) -> None:
    document = read(tmp_path, "run.py", 'def f():  \r\n    """```"""\n\n\n\n\n    return 1\n\n')
    assert document.text == '# run.py\n\n````python\ndef f():  \n    """```"""\n\n\n\n\n    return 1\n````\n'
    assert (document.media, document.title) == ("code", "run.py")


def test_json_keeps_its_order_and_its_digits(tmp_path: Path) -> None:
    written = (
        '{"b": 1.10, "a": [1e999, -0, 12345678901234567890, true, null], "é": {}, "z": [], "s": "\\u0000\\ud800é"}'
    )
    document = read(tmp_path, "a.json", written)
    assert document.text == (
        '{\n  "b": 1.10,\n  "a": [\n    1e999,\n    -0,\n    12345678901234567890,\n    true,\n    null\n  ],\n'
        '  "é": {},\n  "z": [],\n  "s": "\\u0000\\ud800é"\n}\n'
    )
    assert json.loads(document.text) == json.loads(written)
    assert document.media == "json"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' twice"),
        ('{"a": }', "line 1, column 7"),
        ("[1] 2", "syntax error"),
        ("[NaN]", "found NaN"),
        ("[-Infinity]", "found -Infinity"),
        ("[" * 101 + "]" * 101, "100 levels"),
        ("[" * 200_000, "100 levels"),
        ('{"a":' * 200_000, "100 levels"),
    ],
)
def test_json_that_does_not_parse_is_named(tmp_path: Path, content: str, problem: str) -> None:
    with pytest.raises(SourceMalformed, match=problem):
        read(tmp_path, "a.json", content)


def test_json_at_the_limit_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, "a.json", "[" * 100 + "1" * 5000 + "]" * 100).media == "json"


def test_other_yaml_is_code(tmp_path: Path) -> None:
    document = read(tmp_path, "chart.yaml", "# why\na: {{ .Values.a }}\n---\nb: !Ref x\n")
    assert document.text == "# chart.yaml\n\n```yaml\n# why\na: {{ .Values.a }}\n---\nb: !Ref x\n```\n"
    assert document.media == "code"
