"""What was seen of the versions in a canary: counts by name, so that figures of many servers add up.

``live.requests``, ``live.errors``, ``live.tokens``, ``live.first_token.-17``: of an arm; a time is counted in one of
twenty classes for each power of ten, so a quantile is right to within 6 %. ``pairs``, ``identical``, ``overlap``: of
questions that both versions answered; the overlap is summed in thousandths. ``dropped``: shadows that were not run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, get_args

Arm = Literal["live", "candidate", "shadow"]
Time = Literal["first_token", "whole"]
CLASSES = 20  # of a power of ten
SHORTEST = 1e-6  # seconds


def answered(arm: Arm, first_token: float | None, whole: float, tokens: int = 0, *, cut: bool = False) -> Counter[str]:
    """The figures of one answer; times in seconds. `cut`: it reached the most tokens that it might have."""
    times: dict[str, float] = {"whole": whole} if first_token is None else {"first_token": first_token, "whole": whole}
    classes = {f"{arm}.{name}.{_class(seconds)}": 1 for name, seconds in times.items()}
    return Counter({f"{arm}.requests": 1, f"{arm}.tokens": tokens, f"{arm}.cut": int(cut), **classes})


def failed(arm: Arm) -> Counter[str]:
    """The figures of a request that ended in an error."""
    return Counter({f"{arm}.requests": 1, f"{arm}.errors": 1})


def refused(arm: Arm) -> Counter[str]:
    """Of one that the engine did not take: it was too long, or too many waited."""
    return Counter({f"{arm}.requests": 1, f"{arm}.refusals": 1})


def left(arm: Arm) -> Counter[str]:
    """Of one whose caller did not wait for the end."""
    return Counter({f"{arm}.requests": 1, f"{arm}.left": 1})


def fell_back(arm: Arm) -> Counter[str]:
    """Of one that could not be answered by this arm, so that the live version did: an error too."""
    return failed(arm) + Counter({f"{arm}.fallbacks": 1})


def compared(*, identical: bool, overlap: float) -> Counter[str]:
    """The figures of a question that both versions answered. `overlap`: 0 to 1."""
    return Counter({"pairs": 1, "identical": int(identical), "overlap": round(overlap * 1000)})


def quantile(figures: Mapping[str, int], arm: Arm, time: Time, share: float) -> float | None:
    """Seconds within which `share` of the answers came; None before the first."""
    counts = times(figures, arm, time)
    wanted, seen = sum(n for _, n in counts) * share, 0
    for seconds, n in counts:
        seen += n
        if seen >= wanted:
            return round(seconds, 6)
    return None


def times(figures: Mapping[str, int], arm: Arm, time: Time) -> list[tuple[float, int]]:
    """The classes that something fell into: their middle in seconds, and how much. In order."""
    before = f"{arm}.{time}."
    counts = sorted((int(name.removeprefix(before)), n) for name, n in figures.items() if name.startswith(before))
    return [(float(10 ** (number / CLASSES)), n) for number, n in counts]


def outcomes(figures: Mapping[str, int], arm: Arm) -> dict[str, int]:
    """What became of the arm's requests, each of them once."""
    found = {name: figures.get(f"{arm}.{name}", 0) for name in ("errors", "refusals", "left")}
    return {"answers": figures.get(f"{arm}.requests", 0) - sum(found.values()), **found}


def report(figures: Mapping[str, int]) -> dict[str, Any]:
    """As JSON values: each arm, and how the two versions compare where both answered the same question."""
    pairs = figures.get("pairs", 0)
    return {
        "arms": {arm: _of_arm(figures, arm) for arm in get_args(Arm)},
        "compared": pairs,
        "identical": figures.get("identical", 0),
        "overlap": round(figures.get("overlap", 0) / 1000 / pairs, 4) if pairs else None,
        "dropped": figures.get("dropped", 0),
    }


def _of_arm(figures: Mapping[str, int], arm: Arm) -> dict[str, Any]:
    became = outcomes(figures, arm)
    tokens = figures.get(f"{arm}.tokens", 0)
    return {
        "requests": figures.get(f"{arm}.requests", 0),
        **became,
        "fallbacks": figures.get(f"{arm}.fallbacks", 0),
        "cut": figures.get(f"{arm}.cut", 0),
        "tokens": tokens,
        "tokens_per_answer": round(tokens / became["answers"], 2) if became["answers"] else None,
        "first_token_seconds": quantile(figures, arm, "first_token", 0.5),
        "first_token_p95_seconds": quantile(figures, arm, "first_token", 0.95),
        "answer_seconds": quantile(figures, arm, "whole", 0.5),
        "answer_p95_seconds": quantile(figures, arm, "whole", 0.95),
    }


def _class(seconds: float) -> int:
    return round(math.log10(max(seconds, SHORTEST)) * CLASSES)
