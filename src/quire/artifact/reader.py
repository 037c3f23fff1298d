"""Opening an artifact that may be damaged or hostile, and using its KV where it lies."""

from __future__ import annotations

import os
import struct
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from quire.artifact.arriving import digest_mapped
from quire.artifact.fields import refuse
from quire.artifact.identity import context_checksum, digest_bytes, parse_digest
from quire.artifact.manifest import MANIFEST_FILE, MANIFEST_LIMIT, Manifest
from quire.artifact.mapping import REPLACE, map_file, open_regular, read_private, segment_over
from quire.artifact.shards import TOKENS_FILE, FilePlan
from quire.core import KVSegment
from quire.errors import ArtifactError, ArtifactMissing, ChecksumMismatch, ShardInvalid
from quire.file_identity import FileIdentity

if TYPE_CHECKING:
    from quire.artifact.mapping import ReadIn


def open_artifact(directory: Path, *, expect_digest: str | None, read_in: ReadIn = map_file) -> Artifact:
    """Map the artifact in `directory`. It reads the manifest and the headers, no KV.

    `expect_digest`: the digest that names the artifact; None accepts any manifest that is well formed. `read_in`: makes
    memory of a file, if it is not to be mapped. Raises only kinds of `ArtifactError` for what is wrong with it, and
    `StoreUnreadable` or a `ResourceError` for what hinders reading it. KV is not compared with its digests here: see
    `Artifact.verify`.
    """
    if expect_digest is not None:
        parse_digest(expect_digest)
    try:
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactMissing(f"expected an artifact directory at {directory}, found none", hint=REPLACE) from error
    except OSError as error:
        raise ArtifactError.from_os(error, str(directory), hint=REPLACE) from error
    try:
        data, identity = _read_manifest(root, expect_digest)
        manifest = Manifest.from_bytes(data)
        files, identities = [], {MANIFEST_FILE: identity}
        for plan in manifest.plan():
            mapping, identities[plan.name] = read_private(root, plan.name, plan.size, read_in)
            files.append((plan, mapping))
    finally:
        os.close(root)
    for plan, mapping in files:
        _check_header(plan, mapping)
    return Artifact(directory, manifest, files, identities)


class Artifact:
    """An open artifact. All processes that open the same files read one copy, in the page cache.

    `verified` tells whether `verify` has succeeded on this object. `identities`: of the files, as they were when they
    were opened, before any byte was read.
    """

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        files: list[tuple[FilePlan, memoryview]],
        identities: dict[str, FileIdentity],
    ) -> None:
        self.directory = directory
        self.identities = identities
        self.manifest = manifest
        self.verified = False
        (tokens, mapping), *shards = files
        # A copy, so that what `verify` hashes is what `token_ids` was read from.
        self._tokens = bytes(mapping)
        self._shards = shards
        self._segment: KVSegment | None = segment_over(
            shards, manifest.dtype, manifest.position_start, manifest.token_count
        )
        self._ids_at = tokens.spans[0].offset

    @property
    def mapped_files(self) -> int:
        """How many files are mapped: each is one of the system's `vm.max_map_count`."""
        return len(self._shards)

    @cached_property
    def token_ids(self) -> list[int]:
        """The module's own token ids, unpacked on first use. `ShardInvalid` for a negative one."""
        ids = list(struct.unpack_from(f"<{self.manifest.token_count}i", self._tokens, self._ids_at))
        if min(ids) < 0:
            raise ShardInvalid(
                f"{TOKENS_FILE}: expected token ids of 0 and above, found {min(ids)}",
                hint=REPLACE,
            )
        return ids

    @property
    def segment(self) -> KVSegment:
        """KV in place, without a copy. Writes to it stay private: neither the file nor others see them."""
        if self._segment is None:
            raise ArtifactError("expected an open artifact, found it closed", hint="open it again")
        return self._segment

    def verify(self) -> None:
        """Compare every byte with the manifest, as mapped, on all cores. Sets `verified`.

        `ChecksumMismatch` naming the file and both digests, `ShardInvalid` for padding that is not zeros,
        `ArtifactUnreadable` where the disk fails.
        """
        _ = self.segment
        tokens, *shards = self.manifest.files
        _compare(tokens.name, tokens.digest, digest_bytes(self._tokens))
        for entry, (plan, mapping) in zip(shards, self._shards, strict=True):
            _compare(entry.name, entry.digest, digest_mapped(mapping, entry.name))
            for pad in plan.pads:
                if mapping[pad.offset : pad.offset + pad.size] != bytes(pad.size):
                    raise ShardInvalid(f"{plan.name}: expected zeros in {pad.name}, found other bytes", hint=REPLACE)
        if self.manifest.parent is None:
            context = context_checksum(None, self.token_ids)
            _compare("manifest.context_checksum", self.manifest.context_checksum, context)
        self.verified = True

    def check_follows(self, parent: Artifact) -> None:
        """Whether this module was compiled after exactly `parent`: its bytes, its positions, its tokens.

        `ManifestInvalid` or `ChecksumMismatch` naming what differs. Reads no KV.
        """
        declared = self.manifest.parent
        if declared is None:
            refuse("manifest.parent", f"{parent.manifest.module_id}", None)
        _compare("manifest.parent.digest", declared.digest, parent.manifest.digest)
        if self.manifest.position_start != parent.segment.position_end:
            refuse("manifest.position_start", str(parent.segment.position_end), self.manifest.position_start)
        context = context_checksum(parent.manifest.context_checksum, self.token_ids)
        _compare("manifest.context_checksum", self.manifest.context_checksum, context)

    def touched(self) -> str:
        """Which file is not the one that was opened, or not as it was then, and how; "" for none. Reads no bytes.

        It may be asked of a closed artifact too.
        """
        for name, identity in self.identities.items():
            if difference := identity.difference(f"{self.directory}/{name}"):
                return f"{name}: {difference}"
        return ""

    def close(self) -> None:
        """Let go of the files. They stay mapped for as long as anybody holds a tensor of `segment`."""
        self._segment = None
        self._shards = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read_manifest(root: int, expect_digest: str | None) -> tuple[bytes, FileIdentity]:
    with open(open_regular(root, MANIFEST_FILE), "rb") as file:
        identity = FileIdentity.of(os.fstat(file.fileno()))
        try:
            data = file.read(MANIFEST_LIMIT + 1)
        except OSError as error:
            raise ArtifactError.from_os(error, MANIFEST_FILE, hint=REPLACE) from error
    if expect_digest is not None:
        _compare(MANIFEST_FILE, expect_digest, digest_bytes(data))
    return data, identity


def _check_header(plan: FilePlan, mapping: memoryview) -> None:
    found = mapping[: len(plan.header)]
    if found == plan.header:
        return
    at = next(i for i, (a, b) in enumerate(zip(found, plan.header, strict=True)) if a != b)
    raise ShardInvalid(
        f"{plan.name}: expected header byte {at} to be {plan.header[at]}, found {found[at]}",
        hint=REPLACE,
    )


def _compare(name: str, expected: str, actual: str) -> None:
    if expected != actual:
        raise ChecksumMismatch(
            f"{name}: expected {expected}, found {actual}",
            hint=REPLACE,
        )
