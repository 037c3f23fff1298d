"""A file is hashed while it is read, and what cannot be read is an error."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from quire.artifact import digest_bytes
from quire.artifact.arriving import PIECE, digest_mapped
from quire.artifact.mapping import map_file, read_private
from quire.errors import ArtifactUnreadable


def mapped(directory: Path, data: bytes) -> memoryview:
    (directory / "file").write_bytes(data)
    root = os.open(directory, os.O_RDONLY)
    try:
        return read_private(root, "file", len(data), map_file)[0]
    finally:
        os.close(root)


@pytest.mark.parametrize("size", [1, PIECE, PIECE + 1, 2 * PIECE + 12345])
def test_the_digest_is_that_of_the_bytes(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    assert digest_mapped(mapped(tmp_path, data), "file") == digest_bytes(data)


def asks_for_pages() -> bool:
    version = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    return platform.system() == "Linux" and version >= (5, 14)


@pytest.mark.skipif(not asks_for_pages(), reason="this system cannot say that a page is missing: it ends the process")
def test_a_file_that_is_cut_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    mapping = mapped(tmp_path, bytes(2 * PIECE))
    os.truncate(tmp_path / "file", PIECE + 4096)
    with pytest.raises(ArtifactUnreadable, match=f"file: bytes {PIECE} to {2 * PIECE} cannot be read"):
        digest_mapped(mapping, "file")
