"""What a reader gives back, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from blake3 import blake3

Media = Literal["markdown", "text", "html", "pdf", "code", "json", "openapi", "mcp"]


@dataclass(frozen=True, slots=True)
class Extract:
    """The text of one file as its reader found it, not yet canonical."""

    text: str
    media: Media
    title: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """One source as canonical text.

    `path` is the posix name it was read under, in NFC. `metadata` is its front matter, values as written.
    `digest` is ``b3:`` and 64 hex digits of BLAKE3 over the raw bytes, `text_digest` the same over `text`
    in UTF-8.
    """

    path: str
    text: str
    title: str | None
    metadata: dict[str, str]
    media: Media
    digest: str
    text_digest: str


def tagged_digest(data: bytes) -> str:
    """``b3:`` and the 64 hex digits of BLAKE3 over `data`."""
    return f"b3:{blake3(data).hexdigest()}"
