"""From what a request brings to the principal who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.access.events import AccessEvent
from quire.access.key_records import PREFIX
from quire.access.principal import Principal
from quire.errors import Unauthenticated

if TYPE_CHECKING:
    from quire.access.keys import Keys
    from quire.access.policy import Policy
    from quire.access.tokens import Tokens


class Authenticator:
    """API keys, tokens, or both. With neither it asks nobody, and whoever reaches the server is at this machine."""

    def __init__(self, policy: Policy, *, keys: Keys | None = None, tokens: Tokens | None = None) -> None:
        self._policy = policy
        self._keys = keys
        self._tokens = tokens

    @property
    def asks(self) -> bool:
        """Whether a key or a token is wanted at all."""
        return self._keys is not None or self._tokens is not None

    @property
    def takes_keys(self) -> bool:
        return self._keys is not None

    def check(self) -> None:
        """Whether all that callers may bring could be checked now. May wait for the issuer's keys.

        Raises:
            TokenKeysMissing.
        """
        if self._tokens is not None:
            self._tokens.check()

    def authenticate(self, credential: str | None) -> Principal:
        """The principal of a bearer credential. May read the database, or wait for the issuer's keys.

        Raises:
            Unauthenticated, TokenKeysMissing; RegistryError.
        """
        if not credential:
            self._policy.record(AccessEvent("unauthenticated", None, "request", "it came without a key or token"))
            raise Unauthenticated(
                "no API key or token came with the request", hint="send the header Authorization: Bearer KEY"
            )
        if self._keys is not None and (self._tokens is None or credential.startswith(PREFIX)):
            return self._keys.authenticate(credential)
        if self._tokens is None:
            raise Unauthenticated("this server knows no keys or tokens", hint="see access.keys and access.issuer")
        return self._tokens.authenticate(credential)
