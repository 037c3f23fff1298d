"""What a tenant has left of its limits, in the headers of OpenAI: https://platform.openai.com/docs/guides/rate-limits"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from quire.errors import QuotaExhausted

if TYPE_CHECKING:
    from quire.errors import LimitError
    from quire.limits import Standing


def rate_headers(standing: Standing) -> dict[str, str]:
    """``x-ratelimit-*`` of the rates that are limited."""
    headers = {}
    for name, left in (("requests", standing.requests), ("tokens", standing.tokens)):
        if left:
            headers[f"x-ratelimit-limit-{name}"] = str(left.limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(left.remaining)
            headers[f"x-ratelimit-reset-{name}"] = span(left.reset_seconds)
    return headers


def refusal_headers(error: LimitError) -> dict[str, str]:
    """When to come back, in whole seconds; where that is next month, clients are told not to try by themselves."""
    by_hand = {"x-should-retry": "false"} if isinstance(error, QuotaExhausted) else {}
    return {"retry-after": str(max(1, math.ceil(error.retry_seconds)))} | by_hand


def span(seconds: float) -> str:
    """As Go writes durations, and OpenAI with it: ``120ms``, ``6s``, ``1m30s``."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = math.ceil(seconds)
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
