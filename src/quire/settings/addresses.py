"""Addresses of what Quire talks to: their shape alone, so that a wrong one is found at the start and nothing is asked.

Each function gives what was expected, or "" where the text has that shape. An address may hold a password, in any part
of it: `shown` is how one may be told.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit

STORES = ("s3", "gs", "az", "file")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*(?=://)")
# As SQLAlchemy reads one: a password may hold anything but "@".
_DATABASE = re.compile(
    r"[\w+]+://(?:[^:/]*(?::[^@]*)?@)?(?P<host>\[[^\]/?@]+\]|[^/:?@]*)(?::(?P<port>\d+))?(?:/[^?]*)?(?:\?.*)?"
)
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")


def shown(text: str, *, secret: bool = True) -> str:
    """`text` without what may be a secret: its scheme alone, unless it has neither user, query nor fragment, and is no
    `secret` as a whole."""
    if not secret and not set(text) & set("@?#"):
        return repr(text[:90])
    scheme = _SCHEME.match(text)
    return f"{scheme[0]}://..." if scheme else "something else"


def registry(text: str) -> str:
    """A path, sqlite:// with a path, or postgresql://."""
    if "://" not in text:
        return ""
    scheme, _, rest = text.partition("://")
    if scheme.partition("+")[0] == "postgresql":
        found = _DATABASE.fullmatch(text)
        return "" if found and int(found["port"] or 0) <= 65535 else "postgresql://USER@HOST:PORT/DATABASE"
    if scheme.partition("+")[0] != "sqlite":
        return "a path, or a URL in sqlite:// or postgresql://"
    plain = rest.startswith("/") and rest.strip("/") not in ("", ":memory:") and "?" not in rest
    return "" if plain else "a plain file that processes share, as in sqlite:///path"


def object_store(text: str) -> str:
    """s3://, gs:// or az:// with a bucket, or file:// with a directory; no credentials."""
    expected = "the URL of an object store: s3://, gs:// or az:// with a bucket, or file:///directory"
    parts = _split(text)
    if parts is None:
        return expected if text else ""
    if parts.username or parts.password or parts.query or parts.fragment:
        return f"{expected}, without credentials, query or fragment"
    path = unquote(parts.path)
    known = parts.scheme in STORES and bool(parts.netloc) != (parts.scheme == "file")
    odd = "\0" in path or ".." in path.split("/") or (parts.scheme == "file" and path in ("", "/"))
    return "" if known and not odd else expected


def endpoint(text: str) -> str:
    """http:// or https:// with a host."""
    parts = _split(text)
    if parts is None:
        return "an http:// or https:// address" if text else ""
    return "" if parts.scheme in ("http", "https") and parts.hostname else "an http:// or https:// address"


def redis(text: str) -> str:
    """redis:// or rediss:// with a host and the number of a database, or unix:// with a path."""
    expected = "redis://HOST:PORT/NUMBER, rediss:// for TLS, or unix:///path"
    parts = _split(text)
    if parts is None:
        return expected if text else ""
    if parts.scheme == "unix":
        return "" if parts.path else expected
    right = parts.scheme in ("redis", "rediss") and parts.hostname and re.fullmatch(r"(/\d*)?", parts.path)
    return "" if right else expected


def redis_prefix(text: str) -> str:
    """What a name in Redis may begin with: braces and blanks have a meaning there."""
    return "" if _PREFIX.fullmatch(text) else "up to 128 letters, digits and . _ : / -, the first a letter or digit"


def _split(text: str) -> SplitResult | None:
    """None where it is no URL at all, or its port is none."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    return parts if parts.scheme and "://" in text and not re.search(r"\s", parts.netloc) else None
