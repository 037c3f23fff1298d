from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest
from issuing import ec_key, key_set, public, rsa_key

from quire.access.signing_keys import SigningKeys
from quire.errors import TokenKeysMissing

OLD, NEW = key_set(public(rsa_key(), "old")), key_set(public(rsa_key(1), "new"), public(ec_key(), "curve"))


class Issuer:
    """What an issuer publishes, and how often it was asked. `down`: it cannot be reached."""

    def __init__(self, document: bytes = OLD) -> None:
        self.document = document
        self.asked = 0
        self.down = False
        self.seconds = 0.0

    def fetch(self) -> bytes:
        self.asked += 1
        time.sleep(self.seconds)
        if self.down:
            raise TokenKeysMissing("no route to the issuer")
        return self.document


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.005)
    return holds()


def test_keys_are_fetched_once_and_then_known() -> None:
    issuer = Issuer()
    keys = SigningKeys(issuer.fetch, lifetime_seconds=60, retry_seconds=10)
    assert issuer.asked == 0
    assert all(keys.find("old", "RS256") for _ in range(100))
    assert issuer.asked == 1


def test_many_first_requests_ask_the_issuer_once() -> None:
    issuer = Issuer()
    issuer.seconds = 0.1
    keys = SigningKeys(issuer.fetch, lifetime_seconds=60, retry_seconds=10)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(keys.find("old", "RS256"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (issuer.asked, len(found), None in found) == (1, 16, False)


def test_a_key_that_the_issuer_has_just_begun_to_use_is_fetched_at_once() -> None:
    issuer = Issuer()
    keys = SigningKeys(issuer.fetch, lifetime_seconds=3600, retry_seconds=0)
    assert keys.find("old", "RS256")
    issuer.document = NEW
    assert keys.find("new", "RS256")
    assert keys.find("curve", "ES256")
    assert keys.find("old", "RS256") is None  # withdrawn


def test_made_up_names_of_keys_do_not_reach_the_issuer() -> None:
    issuer = Issuer()
    keys = SigningKeys(issuer.fetch, lifetime_seconds=3600, retry_seconds=0.3)
    assert keys.find("old", "RS256")
    assert all(keys.find(f"made up {i}", "RS256") is None for i in range(1000))
    assert issuer.asked == 1
    time.sleep(0.3)
    assert all(keys.find(f"made up {i}", "RS256") is None for i in range(1000))
    assert issuer.asked == 2


def test_keys_are_renewed_in_the_background_while_the_old_ones_serve() -> None:
    issuer = Issuer()
    keys = SigningKeys(issuer.fetch, lifetime_seconds=10, retry_seconds=0)
    assert keys.find("old", "RS256")
    age(keys, 6)
    issuer.document, issuer.seconds = key_set(public(rsa_key(), "old"), public(rsa_key(1), "new")), 1.0
    began = time.perf_counter()
    assert keys.find("old", "RS256")
    assert time.perf_counter() - began < 0.8
    assert eventually(lambda: issuer.asked == 2)


def test_keys_that_cannot_be_renewed_serve_to_the_end_of_their_lifetime_and_not_beyond() -> None:
    issuer = Issuer()
    keys = SigningKeys(issuer.fetch, lifetime_seconds=10, retry_seconds=0)
    assert keys.find("old", "RS256")
    issuer.down = True
    age(keys, 9)
    assert keys.find("old", "RS256")
    age(keys, 2)
    with pytest.raises(TokenKeysMissing, match="no route to the issuer"):
        keys.find("old", "RS256")
    issuer.down = False
    assert keys.find("old", "RS256")


def test_unknown_keys_do_not_wait_for_a_fetch_that_is_under_way() -> None:
    issuer = Issuer()
    keys = SigningKeys(issuer.fetch, lifetime_seconds=3600, retry_seconds=0)
    assert keys.find("old", "RS256")
    issuer.document, issuer.seconds = NEW, 1.5
    found: list[object] = []
    first = threading.Thread(target=lambda: found.append(keys.find("new", "RS256")))
    first.start()
    assert eventually(lambda: issuer.asked == 2)
    began = time.perf_counter()
    assert keys.find("old", "RS256"), "a key that is known is found meanwhile"
    with pytest.raises(TokenKeysMissing, match="being fetched"):
        keys.find("made up", "RS256")
    assert time.perf_counter() - began < 1.2
    first.join()
    assert found[0] is not None


def test_an_issuer_that_is_down_is_asked_now_and_then() -> None:
    issuer = Issuer()
    issuer.down = True
    keys = SigningKeys(issuer.fetch, lifetime_seconds=60, retry_seconds=60)
    for _ in range(50):
        with pytest.raises(TokenKeysMissing):
            keys.find("old", "RS256")
    assert issuer.asked == 1


def age(keys: SigningKeys, seconds: float) -> None:
    """Let what was fetched be older by `seconds`."""
    fetched = keys._fetched
    assert fetched is not None
    keys._fetched = type(fetched)(fetched.keys, fetched.at - seconds)
    keys._tried_at -= seconds


WEAK = public(rsa_key(0, 1024), "weak")
USELESS = {
    "not JSON": b"<html>",
    "a list": b"[]",
    "no keys": b"{}",
    "keys that are no list": b'{"keys": {"kty": "RSA"}}',
    "an empty set": key_set(),
    "a shared secret": key_set({"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}),
    "a short key": key_set(WEAK),
    "for encryption": key_set(public(rsa_key(), "k1", use="enc")),
    "for signing alone": key_set(public(rsa_key(), "k1", key_ops=["sign"])),
    "another algorithm": key_set(public(rsa_key(), "k1", alg="RS512")),
    "another curve": key_set({**public(ec_key(), "k1"), "crv": "P-384"}),
    "nonsense": key_set({"kty": "RSA", "n": "?", "e": []}, {"kty": "EC"}, {}),
    "deep": b'{"keys":' + b"[" * 100_000,
    "numbers": json.dumps({"keys": [1, None, "key"]}).encode(),
}


@pytest.mark.parametrize("document", USELESS.values(), ids=USELESS)
def test_a_document_that_is_no_use(document: bytes) -> None:
    with pytest.raises(TokenKeysMissing):
        SigningKeys(lambda: document, lifetime_seconds=60, retry_seconds=10).find("k1", "RS256")


def test_a_set_is_used_as_far_as_it_can_be() -> None:
    document = key_set(WEAK, {"kty": "EC"}, public(ec_key(), "good"), public(rsa_key(), None))
    keys = SigningKeys(lambda: document, lifetime_seconds=60, retry_seconds=10)
    assert keys.find("good", "ES256")
    assert keys.find(None, "RS256")
    assert keys.find("weak", "RS256") is None
