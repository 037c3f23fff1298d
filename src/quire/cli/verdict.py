"""When an answer from restored KV counts as that of the full prefill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from quire.compiler import Comparison

Verdict = Literal["same", "near tie", "different"]
NEAR_TIE = 0.5  # logits: two tokens this close change places with the last bits of a 16-bit sum


def judge(found: Comparison, dtype: str) -> Verdict:
    """ "same": the greedy tokens agree. "near tie": they part where the full prefill itself was undecided, which the
    last bits of 16-bit numbers decide. "different": anything else, also logits further apart than `dtype` explains.
    """
    from quire.compiler.compiling import TOLERANCE

    if not found.largest_difference <= TOLERANCE[dtype]:  # also for NaN
        return "different"
    if found.same:
        return "same"
    return "near tie" if dtype != "float32" and found.gap < NEAR_TIE else "different"


def told(found: Comparison, dtype: str) -> str:
    """The verdict in words, for a table."""
    verdict = judge(found, dtype)
    if verdict == "same":
        return f"{found.tokens} of {found.tokens}"
    where = f"token {found.agreeing + 1} of {found.tokens}, gap {found.gap:.2g}"
    return f"near tie at {where}" if verdict == "near tie" else f"differs at {where}"
