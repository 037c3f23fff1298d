"""Artifacts as objects: `<url>/artifacts/<algorithm>-<hex>/<file>`, the same names as on a disk (docs/format.md).

The manifest is sent last and removed first, so that an artifact is there as a whole or not at all. What a sender that
died has left lies there without a manifest; the next one goes on from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from blake3 import blake3

from quire.artifact import FileEntry, Manifest, digest_bytes
from quire.artifact.manifest import MANIFEST_FILE, MANIFEST_LIMIT
from quire.errors import ArtifactError, ArtifactNotFound, ArtifactTruncated, ChecksumMismatch
from quire.store.objects import PART, Objects

ROOT = "artifacts"
ABANDONED_AFTER = timedelta(hours=24)  # what has no manifest by then, nobody is sending any more
SEND_AGAIN = "compile it again, or push it from a machine that has it whole"


@dataclass(frozen=True, slots=True)
class Sent:
    """Files and bytes that were sent; what was there already is not among them."""

    files: int = 0
    bytes: int = 0


class Remote:
    """Artifacts in an object store. Thread-safe. All raise StoreUnreachable, StoreDenied, StoreError."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    @property
    def url(self) -> str:
        return self.objects.url

    def manifest(self, digest: str) -> tuple[Manifest, bytes]:
        """The manifest of an artifact, and its bytes. `ArtifactNotFound`, `ChecksumMismatch`."""
        data = self.objects.read(name_of(digest, MANIFEST_FILE), 0, MANIFEST_LIMIT + 1)
        if data is None:
            raise ArtifactNotFound(f"expected an artifact {digest} in {self.url}, found none", hint=SEND_AGAIN)
        if (found := digest_bytes(data)) != digest:
            raise ChecksumMismatch(
                f"{self.url}: {MANIFEST_FILE} of {digest}: expected {digest}, found {found}", hint=SEND_AGAIN
            )
        return Manifest.from_bytes(data), data

    def problem(self, digest: str) -> str:
        """What is wrong with an artifact by its manifest and the sizes of its files; "" for nothing. Reads no KV."""
        try:
            manifest, _ = self.manifest(digest)
        except (ArtifactNotFound, ChecksumMismatch) as error:
            return error.message
        there = self.objects.sizes(f"{ROOT}/{directory_of(digest)}")
        wrong = next((entry for entry in manifest.files if there.get(entry.name) != entry.bytes), None)
        if wrong is None:
            return ""
        found = there.get(wrong.name, "no such file")
        return f"{self.url}: {wrong.name} of {digest}: expected {wrong.bytes:,} bytes, found {found}"

    def has(self, digest: str) -> bool:
        """Whether the artifact's manifest is there: it comes last."""
        return self.objects.read(name_of(digest, MANIFEST_FILE), 0, 1) is not None

    def digests(self) -> list[str]:
        """All artifacts that have a manifest, sorted."""
        return sorted({digest for digest, name, _ in self._all() if name == MANIFEST_FILE})

    def abandoned(self) -> list[str]:
        """What lies there without a manifest, and has not grown for a day: senders that died. Sorted."""
        newest: dict[str, datetime] = {}
        for digest, _, at in self._all():
            newest[digest] = max(at, newest.get(digest, at))
        whole = set(self.digests())
        return sorted(d for d, at in newest.items() if d not in whole and datetime.now(UTC) - at > ABANDONED_AFTER)

    def drop_abandoned(self, digest: str) -> bool:
        """Mutates: remove what `abandoned` named. False, and nothing done: its sender has come back and finished."""
        if self.has(digest):
            return False
        self.delete(digest)
        return True

    def delete(self, digest: str) -> None:
        """Mutates: remove an artifact, or what there is of it, the manifest first."""
        names = sorted(self.objects.sizes(f"{ROOT}/{directory_of(digest)}"), key=lambda name: name != MANIFEST_FILE)
        self.objects.delete(name_of(digest, name) for name in names)

    def send(self, digest: str, directory: Path, tell: Callable[[int], None]) -> Sent:
        """Mutates: put the artifact in `directory` there. Files that are there with the same bytes are not sent again.

        `tell`: called with bytes as they are read; what it raises ends the sending. Every byte is compared with its
        digest on the way: `ChecksumMismatch` for a file that is damaged here, and nothing of it becomes visible.
        """
        data = _read_manifest(directory, digest)
        manifest = Manifest.from_bytes(data)
        there = self.objects.sizes(f"{ROOT}/{directory_of(digest)}")
        sent: list[FileEntry] = []
        for entry in manifest.files:
            if self._is_there(digest, entry, there):
                continue
            parts = partial(_parts, directory / entry.name, entry, tell)
            self.objects.put_parts(name_of(digest, entry.name), parts, entry.digest)
            sent.append(entry)
        if sent or self.objects.read(name_of(digest, MANIFEST_FILE), 0, MANIFEST_LIMIT + 1) != data:
            self.objects.put(name_of(digest, MANIFEST_FILE), data)
            return Sent(len(sent) + 1, sum(entry.bytes for entry in sent) + len(data))
        return Sent()

    def _is_there(self, digest: str, entry: FileEntry, there: dict[str, int]) -> bool:
        if there.get(entry.name) != entry.bytes:
            return False
        name = name_of(digest, entry.name)
        if (said := self.objects.digest_of(name)) is not None:
            return said == entry.digest
        hasher = blake3()
        for at in range(0, entry.bytes, PART):
            hasher.update(self.objects.read(name, at, min(at + PART, entry.bytes)) or b"")
        return f"b3:{hasher.hexdigest()}" == entry.digest

    def _all(self) -> Iterator[tuple[str, str, datetime]]:
        for path, _, at in self.objects.listing(ROOT):
            directory, _, name = path.partition("/")
            yield directory.replace("-", ":"), name, at


def directory_of(digest: str) -> str:
    return digest.replace(":", "-")


def name_of(digest: str, file: str) -> str:
    return f"{ROOT}/{directory_of(digest)}/{file}"


def _read_manifest(directory: Path, digest: str) -> bytes:
    try:
        data = (directory / MANIFEST_FILE).read_bytes()
    except OSError as error:
        raise ArtifactError.from_os(error, f"{directory}/{MANIFEST_FILE}", hint="run `quire fsck`") from error
    if (found := digest_bytes(data)) != digest:
        raise ChecksumMismatch(f"{MANIFEST_FILE}: expected {digest}, found {found}", hint="run `quire fsck --repair`")
    return data


def _parts(path: Path, entry: FileEntry, tell: Callable[[int], None]) -> Iterator[bytes]:
    """The file in parts, hashed as they go: the last one is only given if the whole is what the manifest says."""
    hasher = blake3(max_threads=blake3.AUTO)
    try:
        with open(path, "rb", buffering=0) as file:  # not mapped: it may be cut short meanwhile
            if (size := os.fstat(file.fileno()).st_size) != entry.bytes:
                raise ArtifactTruncated(
                    f"{path}: expected {entry.bytes:,} bytes, found {size:,}", hint="run `quire fsck --repair`"
                )
            for at in range(0, entry.bytes, PART):
                part = os.pread(file.fileno(), PART, at)
                hasher.update(part)
                if at + PART >= entry.bytes and (found := f"b3:{hasher.hexdigest()}") != entry.digest:
                    raise ChecksumMismatch(
                        f"{path}: expected {entry.digest}, found {found}", hint="run `quire fsck --repair`"
                    )
                tell(len(part))
                yield part
    except OSError as error:
        raise ArtifactError.from_os(error, str(path), hint="run `quire fsck`") from error
