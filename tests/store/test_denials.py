"""Whatever is wrong with the credentials, the error says what, and where they are taken from."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest
from services.s3 import KEY, S3

from quire.errors import InvalidSetting, QuireError, StoreDenied, StoreError
from quire.store.objects import Objects

from .conftest import Shared

WHERE = "credentials come from AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, else AWS_PROFILE"
TOKEN = "FwoGZXIvYXdzEJr"


def answer(status: str, code: str, message: str) -> bytes:
    """As S3 says it, with what it repeats of the request."""
    repeated = f"<AWSAccessKeyId>{KEY}</AWSAccessKeyId><Token-0>{TOKEN}</Token-0><StringToSign>{TOKEN}"
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{repeated}</Error>".encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("status", "code", "message", "problem", "step"),
    [
        ("400 Bad Request", "ExpiredToken", "The token has expired.", "have expired", "AWS_SESSION_TOKEN"),
        ("400 Bad Request", "InvalidToken", "It is malformed.", "session token does not hold", "AWS_SESSION_TOKEN"),
        ("403 Forbidden", "InvalidAccessKeyId", "It does not exist.", "does not know the access key", "store.endpoint"),
        (
            "403 Forbidden",
            "SignatureDoesNotMatch",
            "Check it.",
            "does not belong to the access key",
            "check the secret",
        ),
        ("403 Forbidden", "RequestTimeTooSkewed", "Too large.", "clock is off", "set the clock"),
        ("403 Forbidden", "AccessDenied", "Access Denied", "refuses access", "AWS_SKIP_SIGNATURE"),
        ("401 Unauthorized", "Unauthorized", "No.", "refuses access", "what they allow"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", "expecting 'eu-north-1'", "another region", "AWS_REGION"),
        ("301 Moved", "PermanentRedirect", "Use the endpoint.", "another region", "AWS_REGION"),
    ],
)
def test_what_s3_refuses_is_said_with_the_next_step(
    shared: Shared, status: str, code: str, message: str, problem: str, step: str
) -> None:
    shared.proxy.answer = answer(status, code, message)
    objects = shared.remote(0.5).objects
    for ask in (lambda: objects.sizes("a"), lambda: objects.read("a", 0, 1), lambda: objects.put("a", b"x")):
        with pytest.raises(StoreDenied, match=problem) as refused:
            ask()
        assert step in refused.value.hint
        assert WHERE in refused.value.hint
        assert not {KEY, TOKEN} & set(str(refused.value).split())
        assert TOKEN not in str(refused.value)
    with pytest.raises((StoreDenied, StoreError)) as bare:  # the answer to HEAD has no body that could say more
        objects.digest_of("a")
    assert WHERE in bare.value.hint


def test_a_server_that_knows_its_keys_refuses_a_wrong_one(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONG")
    check_keys(shared.s3, after="0")
    try:
        with pytest.raises(StoreDenied, match="does not know the access key"):
            shared.remote().objects.sizes("a")
    finally:
        check_keys(shared.s3, after="inf")


def check_keys(s3: S3, *, after: str) -> None:
    """Let moto look at keys from the request of this number on."""
    url, text = f"{s3.endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
    request = urllib.request.Request(url, after.encode(), text, method="POST")
    with urllib.request.urlopen(request) as done:
        assert done.status == 200


@pytest.mark.parametrize(
    ("environment", "kind", "said"),
    [
        ({"AWS_ACCESS_KEY_ID": "x"}, InvalidSetting, "Missing SecretAccessKey"),
        ({"AWS_SECRET_ACCESS_KEY": "x"}, InvalidSetting, "Missing AccessKeyId"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/no/file", "AWS_ROLE_ARN": "x"}, StoreDenied, "cannot be read"),
    ],
)
def test_half_a_credential_is_said(
    shared: Shared,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    environment: dict[str, str],
    kind: type[QuireError],
    said: str,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(kind, match=said) as refused:
        Objects(shared.url, endpoint=shared.proxy.endpoint, timeout=0.5).sizes("a")
    assert WHERE in refused.value.hint
