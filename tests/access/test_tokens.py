from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from issuing import AUDIENCE, ISSUER, claims, ec_key, key_set, public, rsa_key, token

from quire.access import AccessEvent, Policy, Principal
from quire.access.signing_keys import SigningKeys
from quire.access.tokens import TokenRules, Tokens, parse_roles
from quire.errors import InvalidSetting, Unauthenticated

KEYS = key_set(public(rsa_key(), "k1"), public(ec_key(), "k2"), public(rsa_key(9), "k9", use="enc"))
ANN = Principal("acme", "ann", frozenset({"billing"}), frozenset({"reader"}))


def tokens(told: list[AccessEvent] | None = None, keys: bytes = KEYS, **rules: Any) -> Tokens:
    policy = Policy() if told is None else Policy(told.append)
    return Tokens(
        TokenRules(ISSUER, AUDIENCE, **rules), SigningKeys(lambda: keys, lifetime_seconds=60, retry_seconds=10), policy
    )


@pytest.mark.parametrize(("key", "kid"), [(rsa_key(), "k1"), (ec_key(), "k2")], ids=["RS256", "ES256"])
def test_a_token_stands_for_whom_it_says(key: Any, kid: str) -> None:
    assert tokens().authenticate(token(key, kid)) == ANN
    assert tokens().authenticate(token(key, None)) == ANN  # the only one of its kind
    assert tokens().authenticate(token(key, kid, aud=["other", AUDIENCE])) == ANN
    assert tokens().authenticate(token(key, kid, headers={"typ": "at+jwt"})) == ANN


def unsigned(algorithm: str) -> str:
    head = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "JWT", "kid": "k1"}).encode()).rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=")
    return f"{head.decode()}.{body.decode()}."


def signed_with_the_public_key() -> str:
    """HS256 with the RSA key's public part for a secret: what a check believes that asks the token how it is signed."""
    public_part = rsa_key().public_key()
    secret = public_part.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    said = unsigned("HS256").rstrip(".")
    mark = hmac.new(secret, said.encode(), hashlib.sha256).digest()
    return f"{said}.{base64.urlsafe_b64encode(mark).rstrip(b'=').decode()}"


def deep() -> str:
    return f"{base64.urlsafe_b64encode(b'[' * 9000).rstrip(b'=').decode()}.e30.AAAA"


def with_header(**header: Any) -> str:
    said = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{said}.{base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b'=').decode()}.AAAA"


NOW = int(time.time())
REFUSED: dict[str, tuple[Any, str]] = {
    "no token": ("nothing", "Not enough segments"),
    "empty": ("..", ""),
    "unsigned": (unsigned("none"), "must be signed with RS256 or ES256"),
    "oddly unsigned": (unsigned("nOnE"), "must be signed with"),
    "the public key as a secret": (signed_with_the_public_key(), "must be signed with"),
    "RS512": (jwt.encode(claims(), rsa_key(), algorithm="RS512", headers={"kid": "k1"}), "must be signed with"),
    "PS256": (jwt.encode(claims(), rsa_key(), algorithm="PS256", headers={"kid": "k1"}), "must be signed with"),
    "another's key": (token(rsa_key(1), "k1"), "Signature verification failed"),
    "another's key on the curve": (token(ec_key(1), "k2"), "Signature verification failed"),
    "an unknown key": (token(rsa_key(1), "k7"), "signing key is not among the issuer's"),
    "the name of a key of another kind": (token(ec_key(), "k1"), "signing key is not among"),
    "a key for encryption": (token(rsa_key(9), "k9"), "signing key is not among"),
    "expired": (token(exp=NOW - 61, iat=NOW - 400), "expired"),
    "not yet valid": (token(nbf=NOW + 3600), "not yet valid"),
    "made in the future": (token(iat=NOW + 3600), "not yet valid"),
    "without an end": (token(exp=None), 'missing the "exp" claim'),
    "of another issuer": (token(iss="https://issuer.example"), "Invalid issuer"),
    "without an issuer": (token(iss=None), 'missing the "iss" claim'),
    "for somebody else": (token(aud="wiki"), "Audience doesn't match"),
    "for nobody": (token(aud=None), 'missing the "aud" claim'),
    "a logout token": (token(headers={"typ": "logout+jwt"}), "another type"),
    "with a critical header": (token(headers={"crit": ["b64"], "b64": False}), ""),
    "without a tenant": (token(tenant=None), "claim tenant must name a tenant"),
    "with a tenant that is a path": (token(tenant="acme/billing"), "must name a tenant"),
    "with a list of tenants": (token(tenant=["acme"]), "must name a tenant"),
    "without a user": (token(sub=None), "claim sub must name a user"),
    "with a user that is a path": (token(sub="globex/ann"), "must name a user"),
    "with an empty user": (token(sub=""), "must name a user"),
    "with a user that is half a character": (token(sub="ann\ud800"), "must name a user"),
    "with a user that reads backwards": (token(sub="ann\u202e"), "must name a user"),
    "with an end that is no time": (token(exp=float("inf")), "must be an integer"),
    "nested deeply": (deep(), ""),
    "with a number for a key": (with_header(alg="RS256", kid=7), ""),
    "with a list for a key": (with_header(alg="RS256", kid=["k1"]), ""),
    "with a list of algorithms": (with_header(alg=["RS256"], kid="k1"), ""),
    "with a list for a header": (f"{base64.urlsafe_b64encode(b'[1]').decode()}.e30.AAAA", ""),
    "very long": (token(sub="a" * 20_000), "longer than"),
}


@pytest.mark.parametrize(("given", "why"), REFUSED.values(), ids=REFUSED)
def test_a_token_that_does_not_hold_is_refused_with_the_reason(given: str, why: str) -> None:
    told: list[AccessEvent] = []
    with pytest.raises(Unauthenticated) as refused:
        tokens(told).authenticate(given)
    assert why in str(refused.value)
    assert [(event.kind, event.principal, event.subject) for event in told] == [("unauthenticated", None, "token")]


def test_a_changed_byte_anywhere_is_noticed() -> None:
    good = token()
    checker = tokens()
    for place in range(0, len(good), 7):
        if good[place] == "." or place == len(good) - 1:  # the last character may hold unused bits
            continue
        changed = good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]
        with pytest.raises(Unauthenticated):
            checker.authenticate(changed)


def test_clocks_may_differ_by_what_is_allowed() -> None:
    now = int(time.time())  # the suite may have been collected minutes ago
    late, early = token(exp=now - 30, iat=now - 400), token(nbf=now + 30, iat=now + 30)
    for one in (late, early):
        assert tokens(skew_seconds=60).authenticate(one) == ANN
        with pytest.raises(Unauthenticated):
            tokens(skew_seconds=5).authenticate(one)


def test_claims_are_found_where_the_settings_say() -> None:
    checker = tokens(
        tenant_claim="https://quire.example/org",
        user_claim="preferred_username",
        workspaces_claim="scope",
        roles_claim="realm_access.roles",
        roles=parse_roles("staff = reader, chiefs=admin,chiefs2=operator"),
    )
    principal = checker.authenticate(
        token(
            rsa_key(),
            **{"https://quire.example/org": "acme"},
            preferred_username="ann@acme.example",
            scope="openid billing legal No/Workspace",
            realm_access={"roles": ["staff", "chiefs", "reader", "operator", 7]},
        )
    )
    assert principal == Principal(
        "acme", "ann@acme.example", frozenset({"openid", "billing", "legal"}), frozenset({"reader", "admin"})
    )


def test_without_a_mapping_no_token_reaches_beyond_its_tenant() -> None:
    principal = tokens().authenticate(token(roles=["operator", "monitor", "admin", "king"]))
    assert principal.roles == {"admin"}


@pytest.mark.parametrize("odd", [7, None, {}, {"reader": True}, [["reader"]], [None]])
def test_odd_claims_grant_nothing(odd: Any) -> None:
    principal = tokens().authenticate(token(roles=odd, workspaces=odd))
    assert (principal.roles, principal.workspaces) == (frozenset(), frozenset())


@pytest.mark.parametrize("text", ["reader", "=reader", "staff=king", "staff=reader,,", "a=b=reader extra"])
def test_a_mapping_that_does_not_read(text: str) -> None:
    with pytest.raises(InvalidSetting, match=r"access\.roles must be pairs NAME=ROLE"):
        parse_roles(text)
