"""One file to one document."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

from quire.errors import SourceEmpty, SourceUnreadable
from quire.sources.canonical import canonicalize
from quire.sources.code import read_code
from quire.sources.document import Document, Extract, tagged_digest
from quire.sources.html import read_html
from quire.sources.markdown import read_markdown, read_text
from quire.sources.media import Kind, kind_of
from quire.sources.opening import MAX_BYTES, read_bytes
from quire.sources.pdf import read_pdf
from quire.sources.structured import read_json, read_yaml

READERS: dict[Kind, Callable[[bytes, str], Extract]] = {
    "markdown": read_markdown,
    "text": read_text,
    "html": read_html,
    "pdf": read_pdf,
    "code": read_code,
    "json": read_json,
    "yaml": read_yaml,
}


def read_source(path: Path, *, max_bytes: int = MAX_BYTES, name: str | None = None) -> Document:
    """The file at `path` as a document called `name` (default: `path` as given).

    The name chooses the reader; a name that says nothing is read as plain text. Raises SourceNotFound,
    SourceUnreadable, SourceTooLarge, SourceNotText, SourceMalformed or SourceEmpty, and nothing else.
    """
    name = _checked_name(name if name is not None else path.as_posix())
    data = read_bytes(path, name, max_bytes)
    if not data.strip():
        raise SourceEmpty(f"{name}: expected text, found {_emptiness(data)}", hint="write it, or leave it out")
    extract = READERS[kind_of(name) or "text"](data, name)
    text = canonicalize(extract.text, name)
    if not text:
        raise SourceEmpty(f"{name}: expected text, found none in the {extract.media}", hint="leave the file out")
    return Document(
        path=name,
        text=text,
        title=extract.title,
        metadata=extract.metadata,
        media=extract.media,
        digest=tagged_digest(data),
        text_digest=tagged_digest(text.encode("utf-8")),
    )


def _emptiness(data: bytes) -> str:
    return f"{len(data)} bytes of white space" if data else "an empty file"


def _checked_name(name: str) -> str:
    if re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", name):
        raise SourceUnreadable(
            f"{name!r}: expected a file name of printable UTF-8 characters, found others",
            hint="rename the file; its name becomes part of the text",
        )
    return unicodedata.normalize("NFC", name)
