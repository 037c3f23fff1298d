"""An S3 server, a proxy before it, and artifacts large enough to be cut in the middle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from artifact.samples import TOKEN_IDS, facts
from services.proxy import Proxy
from services.s3 import KEY, S3, SECRET

from quire.artifact import ArtifactWriter, key_of
from quire.core import KVGeometry, KVSegment
from quire.store.disk import DiskStore
from quire.store.objects import Objects
from quire.store.remote import Remote
from quire.store.tiers import TieredStore

# Four layers of 2.5 MiB in two shards of 10 MiB each: two pieces a shard.
GEOMETRY = KVGeometry(layers=4, kv_heads=64, head_dim=4096, dtype="bfloat16")
SHARD = 10 << 20


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    server = S3()
    yield server
    server.stop()


@pytest.fixture
def proxy(s3: S3) -> Iterator[Proxy]:
    between = Proxy(s3.address)
    yield between
    between.close()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tests' own, wherever they run."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("HOME", str(tmp_path))


@dataclass(frozen=True)
class Shared:
    """A bucket as gateways see it, through `proxy`."""

    s3: S3
    proxy: Proxy
    bucket: str
    url: str

    def remote(self, timeout: float = 3.0) -> Remote:
        return Remote(Objects(self.url, endpoint=self.proxy.endpoint, timeout=timeout))

    def store(self, root: Path, *, timeout: float = 3.0, **options: object) -> TieredStore:
        return TieredStore(DiskStore(root), self.remote(timeout), **options)  # type: ignore[arg-type]

    def name(self, digest: str, file: str) -> str:
        return f"pre/fix/artifacts/{digest.replace(':', '-')}/{file}"

    def files(self, digest: str) -> list[str]:
        prefix = self.name(digest, "")
        return [name.removeprefix(prefix) for name in self.s3.names(self.bucket) if name.startswith(prefix)]


@pytest.fixture
def shared(s3: S3, proxy: Proxy) -> Shared:
    bucket = s3.bucket()
    return Shared(s3, proxy, bucket, f"s3://{bucket}/pre/fix")


def fill(segment: KVSegment, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for tensor in (*segment.keys, *segment.values):
        tensor.copy_(torch.randn(tensor.shape, generator=generator))


def commit(store: TieredStore, seed: int = 0) -> str:
    """An artifact of 20 MiB in `store`, another for every seed; its digest."""
    staged = store.stage()
    with ArtifactWriter(staged, GEOMETRY, len(TOKEN_IDS), 0, shard_bytes=SHARD) as writer:
        fill(writer.segment, seed)
        manifest = writer.finish(TOKEN_IDS, **facts(key=key_of({"seed": seed})))
    store.commit(staged, manifest.digest)
    return manifest.digest


def content(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def nothing_left(root: Path) -> bool:
    """No artifact, none half-written, no lock."""
    places = (root / "artifacts", root / "tmp", root / "arriving")
    return not any(place.exists() and any(place.iterdir()) for place in places)
