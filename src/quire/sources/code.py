"""Source code: verbatim but for line ends and NFC, in a fence under its path."""

from __future__ import annotations

from quire.errors import SourceEmpty
from quire.sources.document import Extract
from quire.sources.fences import fenced
from quire.sources.media import language_of
from quire.sources.opening import decode


def read_code(data: bytes, name: str) -> Extract:
    """The code as a fenced block of its language with the path as heading and title.

    Blank lines at either end are dropped. Raises SourceNotText, or SourceEmpty for nothing but white space.
    """
    code = decode(data, name)
    if not code.strip():
        raise SourceEmpty(f"{name}: expected code, found only white space", hint="leave the file out")
    return Extract(f"# {name}\n\n{fenced(code.strip(chr(10)), language_of(name))}", "code", title=name)
