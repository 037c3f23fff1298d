"""Letter case: characters that differ in nothing else fold to one."""

from __future__ import annotations

from functools import lru_cache

IOTA_BELOW = "\u0345"  # a mark, which Unicode's upper case makes a letter


def fold(text: str) -> str:
    """`text` with one character for each of its own."""
    return text.lower() if text.isascii() else "".join(map(_folded, text))


@lru_cache(maxsize=4096)
def _folded(character: str) -> str:
    """Lower case by way of upper case: ς and σ, ſ and s, ı, İ and i have one upper case each."""
    if character == IOTA_BELOW:
        return character
    lower = character.lower()[0]  # of İ that is i and a dot above
    upper = lower.upper()
    return upper.lower() if len(upper) == 1 else lower
