"""What a module is about, for the semantic stage: its title, headings and text, in passages of some hundred words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

WORDS = 100  # from which a passage is full; one ends with its paragraph or section
MOST_PASSAGES = 64  # of one module; of a longer text the beginning counts
LINK = re.compile(r"\]\((?:[^()\s]|\([^()\s]*\))*\)|https?://\S+")
PARAGRAPHS = re.compile(r"\n[ \t]*\n")


def passages(title: str, summary: str, texts: Iterable[str]) -> list[str]:
    """Passages of a module with the canonical `texts` of its sources. There is at least one, with the title."""
    found = [f"{title}\n{summary}".strip()]
    for text in texts:
        for passage in _passages(text):
            if len(found) == MOST_PASSAGES:
                return found
            found.append(passage)
    return found


def _passages(text: str) -> Iterator[str]:
    heading, words = "", 0
    waiting: list[str] = []
    for paragraph in PARAGRAPHS.split(LINK.sub(" ", text)):
        paragraph = paragraph.strip()
        if paragraph.startswith("#"):
            if waiting:
                yield "\n".join([heading, *waiting])
            first, _, rest = paragraph.partition("\n")
            heading, waiting, words = first.lstrip("# "), [rest] if rest else [], len(rest.split())
        elif paragraph:
            waiting.append(paragraph)
            words += len(paragraph.split())
        if words >= WORDS:
            yield "\n".join([heading, *waiting])
            waiting, words = [], 0
    if waiting:
        yield "\n".join([heading, *waiting])
