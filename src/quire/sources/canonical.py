"""Canonical text: one spelling for every text that reads the same.

1. Unicode NFC; byte order marks (U+FEFF) removed wherever they stand.
2. CRLF, CR, vertical tab, form feed, NEL, U+2028 and U+2029 become LF.
3. Every other control character but tab is refused, not stripped: a reviewer cannot see it, a model can.
4. White space at the end of a line is stripped, and more than two blank lines become two, except inside code
   fences, where both can carry meaning. Markdown's hard break of two spaces is lost; its line end stays.
5. No blank lines at either end, one line end after the last line. Text of nothing but white space becomes "".
"""

from __future__ import annotations

import re
import unicodedata

from quire.errors import SourceNotText
from quire.sources.fences import FenceTracker

MAX_BLANK_LINES = 2

_LINE_END = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_REFUSED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")


def plain(text: str, name: str) -> str:
    """Rules 1 to 3: composed characters, LF line ends, nothing invisible.

    Raises SourceNotText for a control character or lone surrogate, with its line and column.
    """
    text = _LINE_END.sub("\n", text.replace("\ufeff", ""))
    found = _REFUSED.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - text.rfind("\n", 0, found.start())
        raise SourceNotText(
            f"{name}: expected printable text, found control character U+{ord(found.group()):04X} "
            f"at line {line}, column {column}",
            hint="remove the character; a reviewer cannot see it but a model would read it",
        )
    return unicodedata.normalize("NFC", text)


def without_controls(text: str) -> str:
    """`text` with refused characters dropped, for formats whose viewers do not show them (HTML, PDF)."""
    return _REFUSED.sub("", _LINE_END.sub("\n", text))


def canonicalize(text: str, name: str = "text") -> str:
    """`text` in canonical form; doing it twice changes nothing. `name` stands in the error.

    Raises SourceNotText for a control character or lone surrogate.
    """
    lines: list[str] = []
    fence = FenceTracker()
    blank = 0
    for line in plain(text, name).split("\n"):
        verbatim = fence.verbatim(line)
        kept = line if verbatim else line.rstrip()
        blank = 0 if verbatim or kept else blank + 1
        if blank <= MAX_BLANK_LINES:
            lines.append(kept)
    return _without_blank_ends(lines)


def _without_blank_ends(lines: list[str]) -> str:
    filled = [i for i, line in enumerate(lines) if line.strip()]
    if not filled:
        return ""
    return "\n".join(lines[filled[0] : filled[-1] + 1]) + "\n"


def one_line(text: str) -> str:
    """`text` with every run of white space as one space: titles, table cells, list items."""
    return " ".join(text.split())
