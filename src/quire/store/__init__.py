"""Where artifacts rest, and the table of the stores there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from quire.errors import InvalidSetting
from quire.store.base import Lease, Store
from quire.store.disk import DiskStore

__all__ = ["DiskStore", "Lease", "Store", "open_store"]


def open_store(url: str | Path) -> Store:
    """The store at a path or a ``file:///path`` URL. `InvalidSetting` for any other."""
    if isinstance(url, Path) or "://" not in url:
        if not str(url) or "\0" in str(url):
            raise InvalidSetting(f"expected a store's path or URL, found {str(url)!r}", hint=_EXAMPLE)
        return DiskStore(Path(url).expanduser())
    scheme = url.partition("://")[0].lower()
    if scheme not in _STORES:
        raise InvalidSetting(
            f"expected a store's path or a URL of {', '.join(_STORES)}, found {url!r:.90}", hint=_EXAMPLE
        )
    return _STORES[scheme](url)


def _disk(url: str) -> Store:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidSetting(f"expected a URL, found {url!r:.90}: {error}", hint=_EXAMPLE) from error
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or path in ("", "/") or "\0" in path:
        raise InvalidSetting(f"expected file:///path/to/store, found {url!r:.90}", hint=_EXAMPLE)
    return DiskStore(Path(path))


_STORES: dict[str, Callable[[str], Store]] = {"file": _disk}
_EXAMPLE = "for example .quire/store, or file:///var/lib/quire"
