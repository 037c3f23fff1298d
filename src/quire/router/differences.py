"""What changed from one route table to another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from quire.router.table import RouteTable


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is another. `subject`: a module, or "" for the whole table. None: it is not there."""

    subject: str
    name: str
    before: Any
    after: Any

    def __str__(self) -> str:
        if isinstance(self.before, list) and isinstance(self.after, list):
            gone = [f"-{value!r}" for value in self.before if value not in self.after]
            new = [f"+{value!r}" for value in self.after if value not in self.before]
            return " ".join(gone + new) or "in another order"
        if self.name == "text":
            return "its text changed"
        return f"{_said(self.before)} -> {_said(self.after)}"


def differences(before: RouteTable, after: RouteTable) -> list[Difference]:
    """Everything that is declared differently; weights follow from the rest and are left out."""
    old, new = before.values, after.values
    found = list(
        _changed("", {**old["stages"], "outside": old["outside"]}, {**new["stages"], "outside": new["outside"]})
    )
    for name in [*old["modules"], *(name for name in new["modules"] if name not in old["modules"])]:
        was, now = old["modules"].get(name), new["modules"].get(name)
        if was is None or now is None:
            found.append(
                Difference(name, "module", None if was is None else "routed", None if now is None else "routed")
            )
        else:
            found += _changed(name, was, now)
    return found


def _changed(subject: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted({*before, *after} - {"order"}):
        was, now = before.get(name), after.get(name)
        if was != now:
            lists = isinstance(was, list) or isinstance(now, list)
            yield Difference(subject, name, was or [] if lists else was, now or [] if lists else now)


def _said(value: Any) -> str:
    return "nothing" if value is None else str(value)
