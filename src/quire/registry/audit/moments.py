"""Times as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from quire.errors import InvalidSetting

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment_of(text: str, now: datetime | None = None) -> datetime:
    """``90m``, ``2h``, ``7d`` or ``2w`` before `now`, or an ISO 8601 date or time, in UTC unless it says otherwise.

    Raises:
        InvalidSetting.
    """
    try:
        if ago := re.fullmatch(r"(\d{1,6})([mhdw])", text):
            unit: dict[str, Any] = {_UNITS[ago[2]]: int(ago[1])}
            return (now or datetime.now(UTC)) - timedelta(**unit)
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidSetting(
            f"expected a time such as 2h, 7d, 2026-11-24 or 2026-11-24T18:00, found {text[:60]!r}",
            hint="m, h, d and w stand for minutes, hours, days and weeks ago",
        ) from error
