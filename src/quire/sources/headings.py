"""Markdown headings (CommonMark 0.31, sections 4.2 and 4.3), and a document cut at them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from blake3 import blake3

from quire.errors import DocumentTooLong
from quire.sources.canonical import one_line
from quire.sources.fences import FenceTracker

_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*")
_NOT_A_PARAGRAPH = re.compile(r" {4}|\t| {0,3}(?:[>|]|[-*+][ \t]|\d{1,9}[.)][ \t])")
_LINK = re.compile(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])")
_MAX_SLUG = 64
_MAX_TITLE = 200


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of level 1 to 6 that begins on `line` (from 0)."""

    line: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Section:
    """A piece of a document. `slug` is unique within the document: a-z, 0-9 and single hyphens."""

    title: str
    slug: str
    text: str


def find_headings(lines: Sequence[str]) -> Iterator[Heading]:
    """Every heading outside code fences, in order. An underlined one counts if its text is a single line."""
    fence = FenceTracker()
    paragraph = 0  # lines of the paragraph that ends just above; -1 within a list, quote, table or indented code
    for number, line in enumerate(lines):
        inside = fence.verbatim(line) or fence.marker != ""
        atx = None if inside else _ATX.match(line)
        setext = None if inside or paragraph != 1 else _SETEXT.fullmatch(line)
        if atx:
            yield Heading(number, len(atx.group(1)), _visible(_without_closing(line[atx.end() :])))
        elif setext:
            yield Heading(number - 1, 1 if setext.group(1)[0] == "=" else 2, _visible(lines[number - 1]))
        if inside or atx or setext or not line.strip():
            paragraph = 0
        elif paragraph < 0 or (paragraph == 0 and _NOT_A_PARAGRAPH.match(line)):
            paragraph = -1
        else:
            paragraph += 1


def _without_closing(title: str) -> str:
    """`title` without the optional closing run of # signs."""
    rest = title.rstrip().rstrip("#")
    return rest if not rest or rest[-1] in " \t" else title


def _visible(title: str) -> str:
    """What a reader sees of a title, on one line of at most 200 characters."""
    return one_line(re.sub(r"[`*]", "", _LINK.sub(r"\1", title.strip()[:_MAX_TITLE]))) or "Untitled"


def split_headings(document_text: str, count: Callable[[str], int], limit: int) -> list[Section]:
    """Canonical markdown cut at its headings so that `count(section.text) <= limit` tokens for each section.

    Cuts fall at the shallowest headings that do; neighbours of one level are packed together as long as they
    fit, and text before the first of them goes with it. Every line stands in exactly one section, in order.
    Slugs come from the section's first heading, so they hold while other sections change. "" gives [].

    Raises DocumentTooLong naming the first piece without a heading to cut at that is above the limit.
    """
    cutter = _Cutter(document_text.split("\n"), count, limit)
    sections: list[Section] = []
    taken: set[str] = set()
    for piece in cutter.cut(0, len(cutter.lines)):
        first, last = cutter.titles(piece)
        title = first if first == last else f"{first} – {last}"
        sections.append(Section(title, _unique_slug(first, taken), cutter.text(piece.start, piece.end)))
    return sections


@dataclass(frozen=True, slots=True)
class _Piece:
    """Lines `start` up to `end`. Whole siblings pack with one another, an introduction with what follows."""

    start: int
    end: int
    whole: bool = True
    leads: bool = False


class _Cutter:
    def __init__(self, lines: list[str], count: Callable[[str], int], limit: int) -> None:
        self.lines = lines
        self._headings = list(find_headings(lines))
        self._count = count
        self._limit = limit

    def cut(self, start: int, end: int) -> list[_Piece]:
        """Lines `start` up to `end` as pieces that fit, cut at the shallowest headings among them."""
        text = self.text(start, end)
        if not text:
            return []
        size = self._count(text)
        if size <= self._limit:
            return [_Piece(start, end)]
        own = next((h.level for h in self._headings if h.line == start), None)
        inner = [h for h in self._headings if start < h.line < end]
        if not inner:
            raise DocumentTooLong(
                f"section {self.titles(_Piece(start, end))[0]!r} (line {start + 1}): expected at most "
                f"{self._limit} tokens, found {size} and no heading inside to cut at",
                hint="put headings into it, shorten it, or raise the limit",
            )
        level = min(h.level for h in inner)
        siblings: list[_Piece] = []
        for a, b in pairwise([start, *(h.line for h in inner if h.level == level), end]):
            pieces = self.cut(a, b)
            whole = len(pieces) == 1
            leads = whole and a == start and own != level
            siblings += [_Piece(p.start, p.end, whole, leads) for p in pieces]
        return self._packed(siblings)

    def _packed(self, pieces: list[_Piece]) -> list[_Piece]:
        packed: list[_Piece] = []
        for piece in pieces:
            last = packed[-1] if packed else None
            mates = last and (last.leads or (last.whole and piece.whole))
            if last and mates and self._count(self.text(last.start, piece.end)) <= self._limit:
                packed[-1] = _Piece(last.start, piece.end, piece.whole)
            else:
                packed.append(piece)
        return packed

    def text(self, start: int, end: int) -> str:
        """These lines without blank ones at the ends; "" if all are blank."""
        text = "\n".join(self.lines[start:end]).strip("\n")
        return f"{text}\n" if text.strip() else ""

    def titles(self, piece: _Piece) -> tuple[str, str]:
        """The heading a piece begins with and the last of the same level in it."""
        inside = [h for h in self._headings if piece.start <= h.line < piece.end]
        if not inside or inside[0].line != piece.start:
            return "Introduction", "Introduction"
        return inside[0].title, [h for h in inside if h.level == inside[0].level][-1].title


def _unique_slug(title: str, taken: set[str]) -> str:
    base = _slug(title)
    slug, number = base, 1
    while slug in taken:
        number += 1
        slug = f"{base}-{number}"
    taken.add(slug)
    return slug


def _slug(title: str) -> str:
    """`title` in a-z, 0-9 and hyphens; without such letters, `section-` and 8 digits of its digest."""
    ascii_text = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-")[:_MAX_SLUG].strip("-")
    return slug or f"section-{blake3(title.encode()).hexdigest()[:8]}"
