"""The public keys of an issuer of tokens: a JSON Web Key Set (RFC 7517), fetched now and then, and never too old.

Halfway through its lifetime a set is fetched again in the background. One that could not be renewed by the end of it is
not used any more, so a key that the issuer has withdrawn opens nothing for longer than that. A token that names a key
which is not in the set (the issuer has just begun to use it) has the set fetched at once, but not more often than every
`retry_seconds`: whoever makes up names cannot make us ask the issuer at will. Nor can that keep our threads waiting:
who comes with an unknown key while a fetch is under way is asked to come back.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from quire.errors import QuireError, TokenKeysMissing

if TYPE_CHECKING:
    from collections.abc import Callable

Algorithm = Literal["RS256", "ES256"]
PublicKey = RSAPublicKey | EllipticCurvePublicKey
LEAST_RSA_BITS = 2048  # RFC 7518, section 3.3
_PUBLIC = {"kty", "kid", "use", "alg", "n", "e", "crv", "x", "y"}  # of a key that brings its private part, only these
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Fetched:
    keys: tuple[tuple[str | None, Algorithm, PublicKey], ...]
    at: float  # monotonic seconds


class SigningKeys:
    """Thread-safe. A key that is known is found without a lock and without waiting for a fetch."""

    def __init__(self, fetch: Callable[[], bytes], *, lifetime_seconds: float, retry_seconds: float) -> None:
        """`fetch`: the document; its QuireError says why it cannot be had. Nothing is fetched yet."""
        self._fetch = fetch
        self._lifetime = lifetime_seconds
        self._retry = retry_seconds
        self._fetched: _Fetched | None = None
        self._tried_at = float("-inf")
        self._failure: QuireError | None = None
        self._fetching = threading.Lock()

    def check(self) -> None:
        """Fetch the set if it has not been, or is too old. Raises TokenKeysMissing."""
        self._current()

    def find(self, kid: str | None, algorithm: Algorithm) -> PublicKey | None:
        """The key that signs under `kid`; without a kid, the only one for `algorithm`.

        Raises:
            TokenKeysMissing: there is no set that is young enough, and none to be had; or the key may be in one that
                is being fetched.
        """
        fetched = self._current()
        key = _choose(fetched, kid, algorithm)
        if key is None and self._renew(fetched, wait=False):
            key = _choose(self._current(), kid, algorithm)
        return key

    def _current(self) -> _Fetched:
        fetched = self._fetched
        if fetched is None or self._age(fetched) >= self._lifetime:
            self._renew(fetched)
            fetched = self._fetched
        elif self._age(fetched) >= self._lifetime / 2 and self._may_try():
            threading.Thread(target=self._renew, args=(fetched,), name="quire-signing-keys", daemon=True).start()
        if fetched is None or self._age(fetched) >= self._lifetime:
            raise TokenKeysMissing(
                f"the issuer's keys cannot be had: {self._failure or 'nothing was fetched'}",
                hint="check access.jwks; tokens are refused until it can be read again",
            )
        return fetched

    def _renew(self, known: _Fetched | None, *, wait: bool = True) -> bool:
        """Fetch, unless another thread has done so since `known`, or it was tried just now. Whether there is news.

        Raises:
            TokenKeysMissing: another thread is fetching, and `wait` is false.
        """
        if not self._fetching.acquire(blocking=wait):
            raise TokenKeysMissing("the issuer's keys are being fetched", hint="ask again in a moment")
        try:
            if self._fetched is not known:
                return True
            if not self._may_try():
                return False
            self._tried_at = time.monotonic()
            try:
                self._fetched = _Fetched(_read(self._fetch()), time.monotonic())
            except QuireError as error:
                self._failure = error
                log.warning("the issuer's keys were not renewed: %s", error)
                return False
            return True
        finally:
            self._fetching.release()

    def _may_try(self) -> bool:
        return time.monotonic() - self._tried_at >= self._retry

    def _age(self, fetched: _Fetched) -> float:
        return time.monotonic() - fetched.at


def _choose(fetched: _Fetched, kid: str | None, algorithm: Algorithm) -> PublicKey | None:
    fitting = [key for named, signs, key in fetched.keys if signs == algorithm and kid in {None, named}]
    return fitting[0] if len(fitting) == 1 else None


def _read(document: bytes) -> tuple[tuple[str | None, Algorithm, PublicKey], ...]:
    """The keys that we can use of a set; others, such as those for encryption, are passed over.

    Raises:
        TokenKeysMissing: it is no key set, or none of it can be used.
    """
    try:
        listed = json.loads(document)["keys"]
        if not isinstance(listed, list):
            raise TypeError("keys is not a list")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise TokenKeysMissing(f"this is not a JSON Web Key Set: {error!r:.200}", hint="see RFC 7517") from error
    found = tuple(key for key in map(_usable, listed) if key is not None)
    if not found:
        raise TokenKeysMissing(
            f"none of the {len(listed)} keys of the set can check a signature",
            hint=f"it needs an RSA key of {LEAST_RSA_BITS} bits or more, or one on the curve P-256",
        )
    return found


def _usable(listed: Any) -> tuple[str | None, Algorithm, PublicKey] | None:
    if not isinstance(listed, dict) or listed.get("use", "sig") != "sig":
        return None
    operations = listed.get("key_ops")
    if isinstance(operations, list) and "verify" not in operations:
        return None
    algorithm = {"RSA": "RS256", "EC": "ES256"}.get(str(listed.get("kty")))
    if algorithm is None or listed.get("alg", algorithm) != algorithm:
        return None
    try:
        key = jwt.PyJWK({name: listed[name] for name in _PUBLIC & set(listed)}, algorithm=algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        log.warning("a key of the issuer's set does not read: %s", error)
        return None
    good = (isinstance(key, RSAPublicKey) and key.key_size >= LEAST_RSA_BITS) or (
        isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    )
    kid = listed.get("kid")
    return (kid if isinstance(kid, str) else None, cast("Algorithm", algorithm), key) if good else None
