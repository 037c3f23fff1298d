"""Letter case as `re.IGNORECASE` sees it: two characters that it takes for one fold to the same.

`str.lower` and `str.casefold` do not do: `re` takes i and the dotless ı for one, and neither of them maps one to the
other. The tables are those that `re` itself compiles by. One character stays out: U+0345, a mark below a
letter, which `re` takes for the letter iota, so that folding makes no letter of what is none.
"""

from __future__ import annotations

import _sre  # type: ignore[import-not-found]  # not in typeshed
from functools import lru_cache
from re import _casefix  # type: ignore[attr-defined]  # not in typeshed; there since Python 3.11


def fold(text: str) -> str:
    """`text` with one character for each of its own."""
    return text.lower() if text.isascii() else "".join(map(_folded, text))


@lru_cache(maxsize=4096)
def _folded(character: str) -> str:
    if character == "\u0345":
        return character
    lower = _sre.unicode_tolower(ord(character))
    return chr(min(c for c in (lower, *_casefix._EXTRA_CASES.get(lower, ())) if c != 0x345))
