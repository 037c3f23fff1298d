"""An issuer's keys over real HTTP, and from files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from issuing import AUDIENCE, ISSUER, key_set, public, rsa_key, token

from quire.access import Policy
from quire.access.signing_keys import SigningKeys
from quire.access.tokens import TokenRules, Tokens
from quire.errors import InvalidSetting, TokenKeysMissing, Unauthenticated
from quire.gateway.issuer_keys import MOST_BYTES, key_source

PAGES: dict[str, tuple[int, bytes]] = {}


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = PAGES.get(self.path, (404, b""))
        self.send_response(status)
        if status == 302:
            self.send_header("location", "/keys")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def issuer() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_keys_are_rotated_over_http(issuer: str) -> None:
    keys = SigningKeys(key_source(f"{issuer}/keys", Path()), lifetime_seconds=3600, retry_seconds=0)
    checker = Tokens(TokenRules(ISSUER, AUDIENCE), keys, Policy())
    old, new = token(rsa_key(), "k1"), token(rsa_key(1), "k2")
    PAGES["/keys"] = (200, key_set(public(rsa_key(), "k1")))
    assert checker.authenticate(old).user == "ann"
    with pytest.raises(Unauthenticated):
        checker.authenticate(new)
    PAGES["/keys"] = (200, key_set(public(rsa_key(), "k1"), public(rsa_key(1), "k2")))
    assert checker.authenticate(new) == checker.authenticate(old)
    PAGES["/keys"] = (200, key_set(public(rsa_key(1), "k2")))
    with pytest.raises(Unauthenticated):
        checker.authenticate(token(rsa_key(2), "k3"))  # has the set fetched
    with pytest.raises(Unauthenticated):
        checker.authenticate(old)


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (500, b"", "HTTP Error 500"),
        (404, b"", "HTTP Error 404"),
        (302, b"", "HTTP Error 302"),
        (200, b"x" * (MOST_BYTES + 1), "more than 1,048,576 bytes"),
    ],
)
def test_what_is_no_answer_is_named(issuer: str, status: int, body: bytes, why: str) -> None:
    PAGES["/keys"] = (200, key_set(public(rsa_key(), "k1")))
    PAGES["/odd"] = (status, body)
    with pytest.raises(TokenKeysMissing, match=why):
        key_source(f"{issuer}/odd", Path())()


def test_nobody_there() -> None:
    with pytest.raises(TokenKeysMissing, match="cannot fetch"):
        key_source("http://127.0.0.1:1/keys", Path())()


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    read = key_source("keys.json", tmp_path)
    with pytest.raises(TokenKeysMissing, match=r"cannot read .*keys\.json: No such file"):
        read()
    for document in (b"one", b"two"):
        (tmp_path / "keys.json").write_bytes(document)
        assert read() == document
    assert key_source(str(tmp_path / "keys.json"), Path("/elsewhere"))() == b"two"


@pytest.mark.parametrize(
    "place", ["http://issuer.example/keys", "ftp://127.0.0.1/keys", "file:///etc/passwd", "http://127.0.0.1.example/"]
)
def test_an_address_that_others_could_answer_for_is_refused(place: str) -> None:
    with pytest.raises(InvalidSetting, match=r"access\.jwks must be a file, or an https:// address"):
        key_source(place, Path())
