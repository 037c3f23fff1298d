"""What access tells whoever keeps a record of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from quire.access.principal import Principal

AccessEventKind = Literal["denied", "unauthenticated", "key_created", "key_revoked"]


@dataclass(frozen=True, slots=True)
class AccessEvent:
    """One denial or change of a key. `principal`: who did it, None if that is not known.

    `subject`: what it was about: a module as it was named, a key's id, an action. A module that is hidden and one that
    does not exist are told alike: whether there is one is for whoever reads the record to find out. `details`: plain
    JSON, kept whole, of what was checked before.
    """

    kind: AccessEventKind
    principal: Principal | None
    subject: str
    reason: str
    tenant: str = ""  # whom it concerns; empty: the principal's
    details: Mapping[str, Any] = field(default_factory=dict)


Recorder = Callable[[AccessEvent], None]
"""Called within requests, from any thread: it must be quick and must not raise."""


def unrecorded(_event: AccessEvent) -> None:
    """For those who keep no record."""
