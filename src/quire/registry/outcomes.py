"""What became of a change while the registry could not be reached: who asked for it must know before asking again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from quire.errors import RegistryBusy, RegistryUnreachable, RegistryUnwritable, ResourceError

NOT_MADE = "the change was not made"
MADE = "the change was made"
UNKNOWN = "whether the change was made is not known: look before you make it again"  # the commit was never answered


@contextmanager
def telling(outcome: str) -> Iterator[None]:
    """Whatever cannot be reached, read or written within says `outcome`, unless it knows better already.

    For what a change reads before it (NOT_MADE) and after it (MADE).
    """
    try:
        yield
    except (RegistryBusy, RegistryUnreachable, RegistryUnwritable, ResourceError) as error:
        error.tell(outcome)
        raise
