"""When an answer says the same thing over and over, as a small model does that has nothing more to say.

Greedy decoding of a small model often falls into a loop that no end token ends (Holtzman et al., arXiv 1904.09751). An
answer is ended where its last tokens are one span (up to `LONGEST` tokens) at least `TIMES` times in a row, and
a given number of tokens together: a shorter repetition may be a table, code or a list of zeros. Every `EVERY` tokens
the places that the last `PROBE` tokens stood at before are looked up; each of them is a span that may repeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMES = 4
LONGEST = 1024  # tokens of a span
EVERY = 32
PROBE = 16


def repeats(token_ids: Sequence[int], answer: int, least: int) -> bool:
    """Whether the last tokens of an answer repeat one span.

    It looks at answers whose length is a multiple of `EVERY` only, so that asking after every token costs little.

    Args:
        token_ids: the answer is what begins at index `answer`.
        least: tokens that the repetition has at least.
    """
    count = len(token_ids) - answer
    if count % EVERY or count < max(least, TIMES):
        return False
    tail = np.asarray(token_ids[max(answer, len(token_ids) - LONGEST - PROBE) :], dtype=np.int64)[::-1]
    spans = np.arange(1, min(LONGEST, count // TIMES) + 1)
    for back in range(min(PROBE, len(tail) - len(spans))):
        spans = spans[tail[spans + back] == tail[back]]
        if not len(spans):
            return False
    return any(_periodic(token_ids, span, max(least, TIMES * span), count) for span in spans.tolist())


def _periodic(token_ids: Sequence[int], span: int, length: int, count: int) -> bool:
    """Whether the last `length` of `count` tokens repeat after every `span`."""
    return length <= count and token_ids[-length:-span] == token_ids[span - length :]
