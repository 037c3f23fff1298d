"""Where an issuer's keys come from: a file, or an address."""

from __future__ import annotations

import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from quire.errors import InvalidSetting, TokenKeysMissing
from quire.gateway.addresses import is_local

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BYTES = 1 << 20
SECONDS = 5.0  # to wait for the issuer


def key_source(place: str, root: Path) -> Callable[[], bytes]:
    """Reads the keys at `place`: an ``https://`` address, or a file relative to `root`.

    An ``http://`` address is taken on this machine alone: on the way from another one, anybody could put in a key.

    Raises:
        InvalidSetting: another kind of address. What is given back raises TokenKeysMissing.
    """
    scheme = place.partition("://")[0].lower() if "://" in place else ""
    if not scheme:
        return partial(_from_file, root / Path(place).expanduser())
    if scheme == "https" or (scheme == "http" and is_local(urlsplit(place).hostname or "")):
        return partial(_from_address, place)
    raise InvalidSetting(
        f"access.jwks must be a file, or an https:// address, found {place!r}",
        hint="http:// only for this machine: whoever sits on the way could put in keys of his own",
    )


def _from_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return _within_limit(file.read(MOST_BYTES + 1), str(path))
    except OSError as error:
        raise TokenKeysMissing(f"cannot read {path}: {error.strerror}", hint="check access.jwks") from error


def _from_address(address: str) -> bytes:
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(address, timeout=SECONDS) as response:
            return _within_limit(response.read(MOST_BYTES + 1), address)
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise TokenKeysMissing(f"cannot fetch {address}: {error}", hint="check access.jwks and the network") from error


def _within_limit(document: bytes, place: str) -> bytes:
    if len(document) > MOST_BYTES:
        raise TokenKeysMissing(f"{place} has more than {MOST_BYTES:,} bytes", hint="check access.jwks")
    return document


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The address is trusted to name the keys; wherever it leads on to is not."""

    def redirect_request(self, *_: Any) -> None:
        return None
