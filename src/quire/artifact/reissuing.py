"""Another manifest over files that are there: for a module that differs from another in nothing its KV depends on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from quire.artifact.identity import version_of
from quire.artifact.manifest import Manifest
from quire.artifact.parts import LayoutIdentity, ParentIdentity, SourceEntry
from quire.artifact.reader import Artifact
from quire.artifact.writer import write_manifest
from quire.core import Scope
from quire.errors import StoreError


def reissue(
    artifact: Artifact,
    directory: Path,
    *,
    key: str,
    title: str,
    tenant_id: str,
    scope: Scope,
    layout: LayoutIdentity,
    parent: ParentIdentity | None,
    sources: Iterable[SourceEntry],
) -> Manifest:
    """Write an artifact with the files of `artifact` into the empty `directory`; its manifest's digest names it.

    Files are linked, so that nothing is copied: artifacts never change in place. Where the file system does not link,
    they are copied. Numerics and verification stay those of the KV. `ManifestInvalid` for values that a reader would
    refuse, `StoreError` and its kinds from the disk.
    """
    manifest = replace(
        artifact.manifest,
        key=key,
        version=version_of(key),
        title=title,
        tenant_id=tenant_id,
        acl_scope=scope.kind,
        acl_owner=scope.owner,
        layout=layout,
        parent=parent,
        sources=tuple(sources),
    )
    data = manifest.to_bytes()
    manifest = Manifest.from_bytes(data)
    try:
        for entry in manifest.files:
            _place(artifact.directory / entry.name, directory / entry.name)
        write_manifest(directory, data)
    except OSError as error:
        raise StoreError.from_os(error, directory, needed=sum(entry.bytes for entry in manifest.files)) from error
    return manifest


def _place(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copyfile(source, target, follow_symlinks=False)
        target.chmod(0o444)
