"""Writing an artifact: files at full size first, then KV computed straight into them, the manifest last."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from quire.artifact.identity import context_checksum, encode_tokens, version_of
from quire.artifact.manifest import FORMAT_VERSION, MANIFEST_FILE, Manifest
from quire.artifact.mapping import segment_over
from quire.artifact.parts import (
    LayerShape,
    LayoutIdentity,
    ModelIdentity,
    Numerics,
    ParentIdentity,
    SourceEntry,
    Verification,
)
from quire.artifact.shards import (
    DEFAULT_SHARD_BYTES,
    check_geometry,
    layers_in_shard,
    plan_shards,
    plan_tokens,
)
from quire.artifact.space import ReservedFile, sync_directory
from quire.core import KVGeometry, KVSegment, Scope
from quire.errors import ArtifactError, ManifestInvalid, StoreError


class ArtifactWriter:
    """An artifact in the making, in a directory that nobody reads yet.

    Used as a context manager it removes what it wrote unless `finish` succeeded. The directory is made when
    it is not there and must be empty otherwise.
    """

    def __init__(
        self,
        directory: Path,
        geometry: KVGeometry,
        token_count: int,
        position_start: int,
        *,
        shard_bytes: int = DEFAULT_SHARD_BYTES,
    ) -> None:
        """Reserve all space on the disk and map it.

        `ManifestInvalid` for numbers outside the format's limits, `StoreFull` naming the bytes needed and
        free, `StoreUnwritable`, `StoreError` for anything else that the file system refuses.
        """
        check_geometry(geometry, token_count, position_start)
        self.directory = directory
        self.geometry = geometry
        self.token_count = token_count
        self.position_start = position_start
        self._layers_per_shard = layers_in_shard(geometry, token_count, shard_bytes)
        self._files: list[ReservedFile] = []
        self._segment: KVSegment | None = None
        self._written: list[Path] = []
        self._made_directory = False
        plans = (plan_tokens(token_count), *plan_shards(geometry, token_count, self._layers_per_shard))
        try:
            self._take_directory()
            for plan in plans:
                path = directory / plan.name
                self._files.append(ReservedFile.reserve(path, plan))
                self._written.append(path)
            shards = [(file.plan, file.mapping) for file in self._files[1:]]
            self._segment = segment_over(shards, geometry.dtype, position_start, token_count)
        except OSError as error:
            self.abort()
            raise StoreError.from_os(error, directory, needed=sum(plan.size for plan in plans)) from error
        except BaseException:
            self.abort()
            raise

    @property
    def segment(self) -> KVSegment:
        """Tensors over the files themselves, zeros at first: what is written here is the artifact.

        They must not be written after `finish`. `ArtifactError` once the writer is done.
        """
        if self._segment is None:
            raise ArtifactError("expected a writer at work, found it finished or aborted", hint="open what was written")
        return self._segment

    def finish(
        self,
        token_ids: Sequence[int],
        *,
        key: str,
        module_id: str,
        title: str,
        tenant_id: str,
        scope: Scope,
        model: ModelIdentity,
        tokenizer_fingerprint: str,
        layout: LayoutIdentity,
        parent: ParentIdentity | None,
        parent_context: str | None,
        rope: dict[str, object],
        numerics: Numerics,
        sources: Iterable[SourceEntry],
        verification: Verification | None = None,
    ) -> Manifest:
        """Put all on the disk, the manifest last, read-only. The manifest's digest names the artifact.

        `parent_context`: the parent manifest's `context_checksum`. `ManifestInvalid` for any value that a
        reader would refuse; `StoreError` and its kinds from the disk.
        """
        if len(token_ids) != self.token_count:
            raise ManifestInvalid(
                f"expected {self.token_count} token ids, found {len(token_ids)}",
                hint="give the tokens that were prefilled",
            )
        if (parent is None) != (parent_context is None):
            raise ManifestInvalid(
                "expected a parent together with its context checksum, found one of the two",
                hint="take both from the parent's manifest",
            )
        _ = self.segment
        tokens = self._files[0]
        tokens.mapping[tokens.plan.spans[0].offset :] = encode_tokens(token_ids)
        shape = LayerShape("full_attention", self.geometry.kv_heads, self.geometry.head_dim)
        try:
            manifest = Manifest(
                format_version=FORMAT_VERSION,
                key=key,
                module_id=module_id,
                version=version_of(key),
                title=title,
                tenant_id=tenant_id,
                route=module_id,
                acl_scope=scope.kind,
                acl_owner=scope.owner,
                model=model,
                tokenizer_fingerprint=tokenizer_fingerprint,
                layout=layout,
                parent=parent,
                token_count=self.token_count,
                position_start=self.position_start,
                layers=(shape,) * self.geometry.layers,
                layers_per_shard=self._layers_per_shard,
                dtype=self.geometry.dtype,
                codec="plain",
                rope=rope,
                numerics=numerics,
                files=tuple(file.settle() for file in self._files),
                context_checksum=context_checksum(parent_context, token_ids),
                sources=tuple(sources),
                verification=verification,
            )
            data = manifest.to_bytes()
            manifest = Manifest.from_bytes(data)
            self._written.append(self.directory / MANIFEST_FILE)
            write_manifest(self.directory, data)
        except OSError as error:
            raise StoreError.from_os(error, self.directory) from error
        self._written.clear()
        self._made_directory = False
        self._let_go()
        return manifest

    def abort(self) -> None:
        """Remove every file written so far, and the directory if it was made here. Nothing after `finish`."""
        self._let_go()
        try:
            for path in self._written:
                path.unlink(missing_ok=True)
            if self._made_directory:
                self.directory.rmdir()
        except OSError as error:
            raise StoreError.from_os(error, self.directory) from error
        finally:
            self._written.clear()
            self._made_directory = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def _take_directory(self) -> None:
        try:
            self.directory.mkdir()
            self._made_directory = True
        except FileExistsError:
            if found := next(self.directory.iterdir(), None):
                raise StoreError(
                    f"expected {self.directory} to be empty, found {found.name}",
                    hint="write into a directory that the store has staged",
                ) from None

    def _let_go(self) -> None:
        self._segment = None
        while self._files:
            self._files.pop().let_go()


def write_manifest(directory: Path, data: bytes) -> None:
    """The manifest, read-only and on the disk, and the directory with it. `OSError` from the disk."""
    with open(directory / MANIFEST_FILE, "xb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())
    sync_directory(directory)
