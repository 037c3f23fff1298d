"""Where artifacts rest: a directory of this machine, and an object store behind it where one is configured.

base       what every store does            disk       a directory, with leases by locks
tiers      disk in front of objects         room       what the disk holds of them, and what goes
remote     artifacts as objects             objects    S3, GCS, Azure, a directory: one client, our errors
fetching   from there, in pieces            credentials, denials   profiles; what is wrong with them
locks      that end with their process         file_systems   which one a path is on, and whether it is a network's
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from quire.errors import InvalidSetting
from quire.store.base import Lease, Store
from quire.store.disk import DiskStore
from quire.store.file_systems import FileSystem, file_system_of, warn_of_network

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from quire.settings import Settings

__all__ = [
    "DiskStore",
    "FileSystem",
    "Lease",
    "Store",
    "file_system_of",
    "open_disk",
    "open_store",
    "warn_of_network",
]


def open_store(settings: Settings, pinned: Callable[[], Collection[str]] = frozenset) -> Store:
    """The store that the settings describe. Connects to nothing.

    `pinned`: digests of what must stay on the disk, asked for when something has to go.

    Raises:
        InvalidSetting.
    """
    disk = open_disk(settings.state)
    url = str(settings["store.url"])
    if not url:
        return disk
    # Their libraries cost time at the start, and most projects have no object store.
    from quire.store.objects import Objects
    from quire.store.remote import Remote
    from quire.store.tiers import TieredStore

    objects = Objects(url, endpoint=settings["store.endpoint"], timeout=settings["store.timeout_seconds"])
    return TieredStore(disk, Remote(objects), disk_bytes=settings["store.disk_bytes"], pinned=pinned)


def open_disk(place: str | Path) -> DiskStore:
    """The store in a directory of this machine, given by its path or a ``file:///path`` URL. `InvalidSetting`."""
    if isinstance(place, Path) or "://" not in place:
        if not str(place) or "\0" in str(place):
            raise InvalidSetting(f"expected a store's path or URL, found {str(place)!r}", hint=_EXAMPLE)
        return DiskStore(Path(place).expanduser())
    try:
        parts = urlsplit(place)
    except ValueError as error:
        raise InvalidSetting(f"expected a URL, found {place!r:.90}: {error}", hint=_EXAMPLE) from error
    path = unquote(parts.path)
    elsewhere = parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.query or parts.fragment
    if elsewhere or path in ("", "/") or "\0" in path:
        raise InvalidSetting(f"expected a store's path or file:///path/to/store, found {place!r:.90}", hint=_EXAMPLE)
    return DiskStore(Path(path))


_EXAMPLE = "for example .quire/store, or file:///var/lib/quire"
