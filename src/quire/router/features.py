"""What a text consists of for the two learned stages, as hashes with counts.

CRC-32 of the feature's text: fast, the same in every process, and with 2**32 values collisions among the some hundred
thousand features of a partition are too few to matter. No vocabulary has to be kept, and none can be read back.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint32]
Weights = npt.NDArray[np.float32]

# Every question has some of these and reference texts have few, so that they would count as rare. English only: in
# other languages they are weighed like any word.
HOLDING = frozenset(
    re.findall(
        r"\w+",
        """a about am an and any are as at be been but by can could did do does for from get had has have he her his how
        i if in is it its just many may me much my no not of on or our please s she should so some t than that the their
        them then there they this to too us was we were what when where which who whom whose why will with would you
        your""",
    )
)
STEM = 5  # letters of a word that stand for its forms: refunded, refunding, refund
GRAMS = (3, 4, 5)  # characters
HALF = 40  # tokens


def example_features(tokens: Sequence[str]) -> tuple[Hashes, Weights]:
    """Words, pairs of words, and pieces of words with their ends marked, of folded `tokens`; 1 + log(count) of each.

    Of many tokens the first and the last 40 count.
    """
    if len(tokens) > 2 * HALF:
        tokens = [*tokens[:HALF], *tokens[-HALF:]]
    found = Counter(f"w {token}" for token in tokens)
    found.update(f"p {first} {second}" for first, second in pairwise(tokens))
    for token in tokens:
        marked = f" {token} "
        for size in GRAMS:
            found.update(f"c {marked[i : i + size]}" for i in range(len(marked) - size + 1))
    return hashed(found), np.array([1 + math.log(count) for count in found.values()], np.float32)


def text_terms(tokens: Iterable[str]) -> Counter[str]:
    """Words and the beginnings of longer ones, counted; words that only hold a question together are left out."""
    found: Counter[str] = Counter()
    for token in tokens:
        if token in HOLDING:
            continue
        found[token] += 1
        if len(token) > STEM:
            found[f"{token[:STEM]}*"] += 1
    return found


def hashed(features: Iterable[str]) -> Hashes:
    return np.array([zlib.crc32(feature.encode("utf-8", "surrogatepass")) for feature in features], np.uint32)
