"""Names that can be derived again: tagged digests, canonical JSON, keys, versions, context checksums.

A digest is ``b3:`` and 64 lower-case hex digits of BLAKE3-256 (https://github.com/BLAKE3-team/BLAKE3-specs).
Canonical JSON is RFC 8785.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import rfc8785
from blake3 import blake3

from quire.errors import ArtifactError, ArtifactMissing, ManifestInvalid

TOKEN_LIMIT = 2**31 - 1
THREADED_ABOVE = 1 << 20  # bytes; below it starting threads costs more than hashing

_DIGEST = re.compile(r"b3:[0-9a-f]{64}")
_CHECK_PATH = "check the path and its permissions"


def digest_bytes(data: bytes | bytearray | memoryview | mmap.mmap) -> str:
    """BLAKE3 of `data` as ``b3:<64 hex>``; on all cores when it is large."""
    threads = blake3.AUTO if len(data) > THREADED_ABOVE else 1
    return "b3:" + str(blake3(data, max_threads=threads).hexdigest())


def digest_file(path: Path) -> str:
    """BLAKE3 of a regular file, mapped, on all cores. Raises what `ArtifactError.from_os` gives."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ArtifactMissing(f"expected a regular file at {path}, found something else", hint=_CHECK_PATH)
        return "b3:" + str(blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest())
    except OSError as error:
        raise ArtifactError.from_os(error, str(path), hint=_CHECK_PATH) from error


def is_digest(text: object) -> bool:
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def parse_digest(text: str) -> str:
    """The hex digits of a tagged digest. `ArtifactError` for any other text."""
    if not is_digest(text):
        raise ArtifactError(
            f"expected a digest b3:<64 hex digits>, found {text!r:.90}",
            hint="copy the digest from `quire ls`",
        )
    return text.removeprefix("b3:")


def canonical(document: object) -> bytes:
    """RFC 8785 bytes of a JSON value: dict, list, tuple, str, int (|n| < 2**53), finite float, bool, None.

    `ManifestInvalid` for anything that JSON cannot say exactly.
    """
    try:
        return rfc8785.dumps(document)  # type: ignore[arg-type]  # what is no JSON is refused at run time
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(
            f"expected a value that canonical JSON (RFC 8785) can hold: {error}",
            hint="use strings, finite numbers below 2**53, lists and objects with string keys",
        ) from error


def key_of(inputs: Mapping[str, object]) -> str:
    """The key of a module: the digest of its inputs as canonical JSON, the same on every machine."""
    return digest_bytes(canonical(dict(inputs)))


def version_of(key: str) -> str:
    """The first twelve hex digits of a key: the version that people read and type."""
    return parse_digest(key)[:12]


def encode_tokens(ids: Sequence[int]) -> bytes:
    """Token ids as little-endian int32. `ManifestInvalid` for one outside 0 .. 2**31 - 1."""
    outside = next((i for i in ids if not 0 <= i <= TOKEN_LIMIT), None)
    if outside is not None:
        raise ManifestInvalid(
            f"expected token ids of 0 to {TOKEN_LIMIT}, found {outside}",
            hint="check that the tokenizer belongs to the model",
        )
    return struct.pack(f"<{len(ids)}i", *ids)


def context_checksum(parent: str | None, ids: Sequence[int]) -> str:
    """Digest over all tokens from the root to here: the parent's context checksum, then this module's ids.

    Two modules with the same context checksum stand after exactly the same tokens, cut at the same places.
    """
    before = "root" if parent is None else "b3:" + parse_digest(parent)
    return digest_bytes(f"quire context 1\n{before}\n".encode() + encode_tokens(ids))
