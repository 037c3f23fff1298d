from __future__ import annotations

from collections.abc import Iterator

import pytest
from issuing import AUDIENCE, ISSUER, key_set, public, rsa_key, token

from quire.access import LOCAL, Authenticator, Keys, Policy
from quire.access.signing_keys import SigningKeys
from quire.access.tokens import TokenRules, Tokens
from quire.errors import Unauthenticated
from quire.registry import Registry

POLICY = Policy()


@pytest.fixture
def keys(registry: Registry) -> Iterator[Keys]:
    made = Keys(registry.keys, POLICY)
    yield made
    made.close()


def tokens() -> Tokens:
    document = key_set(public(rsa_key(), "k1"))
    return Tokens(
        TokenRules(ISSUER, AUDIENCE),
        SigningKeys(lambda: document, lifetime_seconds=60, retry_seconds=10),
        POLICY,
    )


def test_each_kind_of_credential_is_taken_only_where_it_is_wanted(keys: Keys) -> None:
    record, key = keys.create(LOCAL, "Bob's", tenant="acme", user="bob")
    both, alone = Authenticator(POLICY, keys=keys, tokens=tokens()), Authenticator(POLICY, keys=keys)
    by_token = Authenticator(POLICY, tokens=tokens())
    assert both.authenticate(key) == alone.authenticate(key) == record.principal
    assert both.authenticate(token()).user == by_token.authenticate(token()).user == "ann"
    for asked, credential in ((alone, token()), (by_token, key)):
        with pytest.raises(Unauthenticated):
            asked.authenticate(credential)


@pytest.mark.parametrize("credential", [None, "", "quire_", "sk-unused"])
def test_nobody_gets_in_without(keys: Keys, credential: str | None) -> None:
    every = [Authenticator(POLICY, keys=keys), Authenticator(POLICY, tokens=tokens()), Authenticator(POLICY)]
    assert [one.asks for one in every] == [True, True, False]
    for one in every:
        with pytest.raises(Unauthenticated):
            one.authenticate(credential)
