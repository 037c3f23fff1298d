"""Names that anybody can derive again."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from quire.artifact import (
    canonical,
    context_checksum,
    digest_bytes,
    digest_file,
    is_digest,
    key_of,
    parse_digest,
    version_of,
)
from quire.errors import ArtifactError, ManifestInvalid

EMPTY = "b3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"  # BLAKE3 test vectors


def test_digests_are_blake3(tmp_path: Path) -> None:
    assert digest_bytes(b"") == EMPTY
    for size in (0, 1, 1 << 20, (1 << 20) + 1, 3_000_000):
        content = hashlib.shake_128(b"quire").digest(size)
        (tmp_path / "file").write_bytes(content)
        expected = "b3:" + str(blake3(content).hexdigest())
        assert digest_bytes(content) == digest_bytes(memoryview(content)) == expected
        assert digest_file(tmp_path / "file") == expected


def test_canonical_json() -> None:
    """The example of RFC 8785, section 3.2.2 and 3.2.3, as far as Python has its values."""
    document = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": '€$\x0f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    assert (
        canonical(document)
        == (
            '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
            '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
        ).encode()
    )


@pytest.mark.parametrize(
    "value", [2**53, float("nan"), float("inf"), {1: 2}, {"a": object()}, b"bytes", "\ud800", {"\udfff": 1}]
)
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(ManifestInvalid, match="RFC 8785"):
        canonical(value)
    with pytest.raises(ManifestInvalid):
        key_of({"input": value})


def test_a_loop_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ManifestInvalid):
        canonical(loop)


def test_keys_do_not_depend_on_order() -> None:
    key = key_of({"layout": 1, "source": "a"})
    assert key == key_of({"source": "a", "layout": 1}) != key_of({"source": "b", "layout": 1})
    assert version_of(key) == key[3:15]


@pytest.mark.parametrize("text", ["", "b3:", "b3:12", EMPTY.upper(), EMPTY + "\n", EMPTY[3:], "sha256:" + "0" * 64])
def test_other_texts_are_no_digests(text: str) -> None:
    assert not is_digest(text)
    for read in (parse_digest, version_of):
        with pytest.raises(ArtifactError, match="expected a digest"):
            read(text)


@given(st.lists(st.integers(0, 2**31 - 1)), st.integers(0, 2**31 - 1))
def test_contexts_tell_tokens_and_cuts_apart(ids: list[int], extra: int) -> None:
    whole = context_checksum(None, ids)
    assert whole == context_checksum(None, list(ids))
    assert whole != context_checksum(None, [*ids, extra])
    assert whole != context_checksum(EMPTY, ids)
    assert context_checksum(whole, [extra]) != context_checksum(None, [*ids, extra])


def test_contexts_as_specified() -> None:
    assert context_checksum(None, [1, 70000]) == digest_bytes(b"quire context 1\nroot\n" + struct.pack("<ii", 1, 70000))
    assert context_checksum(EMPTY, [2]) == digest_bytes(
        b"quire context 1\n" + EMPTY.encode() + b"\n" + struct.pack("<i", 2)
    )
    with pytest.raises(ManifestInvalid):
        context_checksum(None, [-1])
