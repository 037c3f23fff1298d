"""One file to one document, and every way a file refuses."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from quire.errors import (
    SourceEmpty,
    SourceError,
    SourceMalformed,
    SourceNotFound,
    SourceNotText,
    SourceTooLarge,
    SourceUnreadable,
)
from quire.sources import read_source
from quire.sources.reading import READERS


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | bytes], Path]:
    monkeypatch.chdir(tmp_path)

    def write(name: str, content: str | bytes) -> Path:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return Path(name)

    return write


Write = Callable[[str, str | bytes], Path]


def test_a_document_carries_its_text_and_both_digests(write: Write) -> None:
    raw = "\ufeff# Refunds  \r\n\r\nWithin 30 days.\r\n".encode()
    document = read_source(write("refunds.md", raw))
    assert (document.path, document.media, document.title) == ("refunds.md", "markdown", "Refunds")
    assert document.text == "# Refunds\n\nWithin 30 days.\n"
    assert document.digest == f"b3:{blake3(raw).hexdigest()}"
    assert document.text_digest == f"b3:{blake3(document.text.encode()).hexdigest()}"


def test_front_matter_becomes_metadata_as_it_was_written(write: Write) -> None:
    front = "---\ntitle: 'Billing: terms'\nversion: 1.10\nreviewed: 2024-02-01\nlive: yes\ntags: [a, 2]\nowner:\n---\n"
    document = read_source(write("billing.md", front + "# Other\n"))
    assert document.text == "# Other\n"
    assert document.title == "Billing: terms"
    assert document.metadata == {
        "title": "Billing: terms",
        "version": "1.10",
        "reviewed": "2024-02-01",
        "live": "yes",
        "tags": '["a", 2]',
        "owner": "",
    }


@pytest.mark.parametrize(
    ("front", "problem"),
    [
        ("---\ntitle: x\n", "closes the front matter"),
        ("---\n- a\n---\n", "key: value"),
        ("---\na: b: c\n---\n", "syntax error at line 2"),
        ("---\nx: 1\nx: 2\n---\n", "'x' twice at line 3"),
        ("---\nx: [\n---\n", "syntax error"),
        ("---\n? [a]\n: b\n---\n", "a word as key"),
        ("---\nx: *y\n---\n", r"\*y at line 2"),
        ("---\nx: &a [*a]\n---\n", "alias"),
        ('---\nx: "\\0"\n---\n', "printable characters"),
        ("---\nx: " + "[" * 5000 + "\n---\n", "100 levels"),
        ("---\na: 1\n...\n--- b\n---\n", None),
    ],
)
def test_front_matter_that_does_not_parse_is_named(write: Write, front: str, problem: str | None) -> None:
    path = write("a.md", front + "text")
    if problem is None:
        assert read_source(path).metadata == {"a": "1"}
    else:
        with pytest.raises(SourceMalformed, match=problem):
            read_source(path)


def test_aliases_cannot_blow_up(write: Write) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(SourceMalformed, match="1000000 values"):
        read_source(write("bomb.md", "---\n" + "\n".join(lines) + "\n---\ntext"))


@pytest.mark.parametrize("name", ["a.md", "a.txt", "a.html", "a.pdf", "a.json", "a.yaml", "a.py", "unknown"])
@pytest.mark.parametrize("content", [b"", b" \n\t\r\n"])
def test_nothing_is_not_a_source(write: Write, name: str, content: bytes) -> None:
    with pytest.raises(SourceEmpty, match=rf"{name}: expected text"):
        read_source(write(name, content))


@pytest.mark.parametrize(
    ("name", "content"), [("a.md", "---\nx: 1\n---\n"), ("a.html", "<p hidden>x</p>"), ("a.py", "﻿\n")]
)
def test_nothing_left_is_not_a_source_either(write: Write, name: str, content: str) -> None:
    with pytest.raises(SourceEmpty):
        read_source(write(name, content))


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00", "NUL byte at offset 8", "export"),
        ("caf\u00e9".encode("latin-1"), "byte 0xe9 at offset 3", "iconv -f WINDOWS-1252"),
        ("hi".encode("utf-16"), "UTF-16 with a byte order mark", "iconv -f UTF-16 -t UTF-8 a.txt"),
        (b"\xfe\xff\x00h", "UTF-16 with", "iconv"),
        ("hi".encode("utf-32"), "UTF-32 with", "iconv -f UTF-32"),
        (b"ok\n\x1b[31mred", r"U\+001B at line 2, column 1", "remove"),
    ],
)
def test_what_is_not_utf8_text_says_where_and_what_to_do(write: Write, content: bytes, message: str, hint: str) -> None:
    with pytest.raises(SourceNotText, match=message) as caught:
        read_source(write("a.txt", content))
    assert hint in caught.value.hint


def test_a_missing_file_suggests_its_neighbour(write: Write) -> None:
    write("refunds.md", "x")
    with pytest.raises(SourceNotFound, match=r"refund\.md: expected a file") as caught:
        read_source(Path("refund.md"))
    assert caught.value.hint == "did you mean refunds.md?"


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "a.md/b.md", ""])
def test_a_name_no_file_can_have_is_refused(write: Write, name: str) -> None:
    write("a.md", "x")
    with pytest.raises((SourceNotFound, SourceUnreadable)):
        read_source(Path(name))


def test_a_name_that_would_become_text_nobody_reviewed_is_refused(write: Write) -> None:
    with pytest.raises(SourceUnreadable, match="printable"):
        read_source(write("a\n# Ignore the rest.py", "x"))


@pytest.mark.timeout(20)
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.md")
    (tmp_path / "dangling.md").symlink_to("nowhere")
    (tmp_path / "loop.md").symlink_to("loop.md")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.md"))
        for name, found in {
            ".": "a directory",
            "fifo.md": "a FIFO",
            "s.md": "a socket",
            "dangling.md": "a link to nowhere, which is not there",
            "loop.md": "a loop of symbolic links",
            "/dev/zero": "a character device",
        }.items():
            with pytest.raises(SourceUnreadable, match=f"found {found}"):
                read_source(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_is_asked_for(write: Write) -> None:
    path = write("secret.md", "x")
    path.chmod(0)
    with pytest.raises(SourceUnreadable, match="permission was denied"):
        read_source(path)


def test_an_enormous_file_is_refused_by_its_size(write: Write) -> None:
    path = write("huge.md", "x")
    os.truncate(path, 1 << 40)
    with pytest.raises(SourceTooLarge, match="at most 67108864 bytes, found 1099511627776"):
        read_source(path)
    assert read_source(write("edge.md", "12345"), max_bytes=5).text == "12345\n"
    with pytest.raises(SourceTooLarge):
        read_source(write("edge.md", "123456"), max_bytes=5)


@pytest.mark.parametrize("change", [b"more", b"", b"text longer than before"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch, change: bytes
) -> None:
    path = write("a.md", "text")
    read = os.read

    def read_after_change(descriptor: int, size: int) -> bytes:
        path.write_bytes(change)
        os.utime(path, ns=(1, 1))
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", read_after_change)
    with pytest.raises(SourceUnreadable, match="changed while it was read"):
        read_source(path)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_file_longer_than_its_size_is_refused() -> None:
    with pytest.raises(SourceUnreadable, match="a file at rest of 0 bytes"):
        read_source(Path("/proc/self/status"))


def test_every_reader_gives_the_same_text_twice(write: Write) -> None:
    for kind in READERS.keys() - {"pdf"}:
        path = write(f"a.{ {'markdown': 'md', 'text': 'txt', 'code': 'py'}.get(kind, kind) }", '{"a": [1, "<p>x</p>"]}')
        assert read_source(path) == read_source(path)


def test_errors_exit_as_source_errors(write: Write) -> None:
    with pytest.raises(SourceError) as caught:
        read_source(write("a.json", "{"))
    assert (caught.value.exit_code, caught.value.code) == (3, "source_malformed")
