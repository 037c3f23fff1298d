"""Several documents as the one text of a module."""

from __future__ import annotations

import re
from collections.abc import Iterable

from quire.sources.canonical import canonicalize
from quire.sources.document import Document
from quire.sources.fences import unclosed_fence

_HEADING = re.compile(r"#{1,6} ")


def join(documents: Iterable[Document]) -> str:
    """The documents in the order given, a blank line between them, as canonical text; "" for none.

    One that does not begin with a heading gets its title, or else its path, as one. A code fence left open is
    closed, so that no document runs into the next.
    """
    return canonicalize("\n".join(_self_contained(document) for document in documents))


def _self_contained(document: Document) -> str:
    heading = "" if _HEADING.match(document.text) else f"# {document.title or document.path}\n\n"
    marker = unclosed_fence(document.text)
    return heading + document.text + (f"{marker}\n" if marker else "")
