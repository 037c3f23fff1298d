"""An issuer of tokens, as far as a test needs one: signing keys, the set of their public parts, tokens."""

from __future__ import annotations

import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER = "https://issuer.example/"
AUDIENCE = "quire"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key(number: int = 0) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public(key: PrivateKey, kid: str | None, **more: Any) -> dict[str, Any]:
    """The public part as a JSON Web Key."""
    if isinstance(key, rsa.RSAPrivateKey):
        listed = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        listed = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**listed, **({} if kid is None else {"kid": kid}), **more}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    """Of a token for Ann that holds; None takes a claim away."""
    now = int(time.time())
    content = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ann",
        "iat": now,
        "exp": now + 300,
        "tenant": "acme",
        "workspaces": ["billing"],
        "roles": ["reader"],
    }
    return {name: value for name, value in (content | changes).items() if value is not None}


def token(key: PrivateKey | None = None, kid: str | None = "k1", *, headers: Any = None, **changes: Any) -> str:
    """Signed by `key` (default: the first RSA key), with whatever its kind signs with."""
    key = key or rsa_key()
    algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    named = ({} if kid is None else {"kid": kid}) | (headers or {})
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers=named)
