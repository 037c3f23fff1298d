"""A small artifact that is the same on every machine, and ways to damage a copy of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from quire.artifact import (
    ArtifactWriter,
    LayoutIdentity,
    Manifest,
    ModelIdentity,
    Numerics,
    ParentIdentity,
    SourceEntry,
    Verification,
    digest_bytes,
    key_of,
)
from quire.core import KVGeometry, KVSegment, Scope

GEOMETRY = KVGeometry(layers=3, kv_heads=2, head_dim=4, dtype="bfloat16")
TOKEN_IDS = [5, 0, 49151, 7, 2**31 - 1]
KEY = key_of({"source": "prices", "layout": 1})
TWO_LAYERS = 2 * 2 * 4096  # one shard of two layers, one of the third


def facts(**changes: Any) -> dict[str, Any]:
    """Keyword arguments of `ArtifactWriter.finish` for a root module."""
    return {
        "key": KEY,
        "module_id": "acme/prices",
        "title": "Prices – 2026 ✓",
        "tenant_id": "acme",
        "scope": Scope("tenant", "acme"),
        "model": ModelIdentity("tiny", "main", digest_bytes(b"weights")),
        "tokenizer_fingerprint": digest_bytes(b"tokenizer"),
        "layout": LayoutIdentity("plain", "1", digest_bytes(b"layout")),
        "parent": None,
        "parent_context": None,
        "rope": {"rope_theta": 10000.0, "rope_type": "default"},
        "numerics": Numerics("cpu", 2, 256, {"torch": "2.13.0"}),
        "sources": [SourceEntry("prices.md", "text/markdown", digest_bytes(b"text"))],
        "verification": Verification("prefill", 0.0, 5),
    } | changes


PARENT = ParentIdentity("acme/system", KEY.removeprefix("b3:")[:12], KEY, digest_bytes(b"parent"))


def fill(segment: KVSegment) -> None:
    """Every K and V gets its own values: exact in all dtypes, the same everywhere."""
    for index, tensor in enumerate((*segment.keys, *segment.values)):
        tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape) % 251 - 125 + index)


def write(directory: Path, *, geometry: KVGeometry = GEOMETRY, **changes: Any) -> Manifest:
    with ArtifactWriter(directory, geometry, len(TOKEN_IDS), 0, shard_bytes=TWO_LAYERS) as writer:
        fill(writer.segment)
        return writer.finish(TOKEN_IDS, **facts(**changes))


@dataclass(frozen=True)
class Sample:
    """A written artifact, and fresh copies of it to damage."""

    directory: Path
    manifest: Manifest

    def copy(self, to: Path) -> Path:
        shutil.copytree(self.directory, to)
        for path in to.iterdir():
            path.chmod(0o644)
        return to


def rewrite_manifest(directory: Path, change: Callable[[Manifest], Manifest] = replace) -> str:
    """Replace the manifest by a changed one that is well formed; its digest."""
    path = directory / "manifest.json"
    changed = change(Manifest.from_bytes(path.read_bytes()))
    path.write_bytes(changed.to_bytes())
    return changed.digest
