"""Readers: reviewed files of knowledge in, canonical text out. The same bytes give the same text."""

from quire.sources.canonical import canonicalize
from quire.sources.collecting import collect, places
from quire.sources.document import Document, Media
from quire.sources.headings import Section, split_headings
from quire.sources.joining import join
from quire.sources.opening import MAX_BYTES
from quire.sources.reading import read_source

__all__ = [
    "MAX_BYTES",
    "Document",
    "Media",
    "Section",
    "canonicalize",
    "collect",
    "join",
    "places",
    "read_source",
    "split_headings",
]
