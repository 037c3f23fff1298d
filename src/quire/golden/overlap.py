"""How much two texts say the same, in words."""

from __future__ import annotations

import re
from collections import Counter

_WORD = re.compile(r"[^\W_]+(?:[.,]\d+)*")  # 4.50 and 1,000 are one word


def f1(expected: str, found: str) -> float:
    """Harmonic mean of precision and recall of words, 0 to 1, letter case and order left out.

    As in SQuAD (arXiv 1606.05250), without dropping articles: that list would be English.
    """
    wanted, said = (Counter(_WORD.findall(text.casefold())) for text in (expected, found))
    if not wanted or not said:
        return float(wanted == said)
    shared = (wanted & said).total()
    return 2 * shared / (wanted.total() + said.total())
