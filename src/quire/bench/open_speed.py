"""Opening artifacts of growing length, and checking them.

Opening reads the manifest, the shards' headers and the token ids (4 bytes each) and maps the rest: its time must not
depend on the KV's size. Checking hashes every byte with BLAKE3, so it costs bytes / hash rate, and from a cold page
cache bytes / disk rate; it uses all cores, whatever the number of threads of the model. The KV here is noise: neither
opening nor hashing cares.
"""

from __future__ import annotations

import shutil
import statistics
import time
from typing import TYPE_CHECKING

import torch

from quire.artifact import ArtifactWriter, LayoutIdentity, ModelIdentity, context_checksum, key_of, open_artifact
from quire.bench.figures import Figure, at_most, milliseconds
from quire.bench.pages import drop_pages
from quire.compiler.compiling import numerics
from quire.core import Scope

if TYPE_CHECKING:
    from pathlib import Path

    from quire.bench.workbench import Workbench

LENGTHS = (256, 1024, 4096, 16_384, 65_536)
LARGEST = 2 << 30  # bytes of one artifact: they are made one at a time


def measure_open(bench: Workbench) -> list[Figure]:
    """Milliseconds to open, in memory and from the disk, and the rate of checking, for each length."""
    geometry = bench.model.geometry
    lengths = {n for n in LENGTHS if n * geometry.bytes_per_token <= LARGEST} | {len(bench.token_ids)}
    return [figure for tokens in sorted(lengths) for figure in _measure_length(bench, tokens)]


def _measure_length(bench: Workbench, tokens: int) -> list[Figure]:
    bench.say(f"an artifact of {tokens:,} tokens")
    directory = bench.work / "opened"
    try:
        digest, size = _write(bench, directory, tokens)
        opening: list[float] = []
        from_disk: list[float] = []
        checking: list[float] = []
        for _ in range(bench.options.repeat):
            drop_pages(directory)
            from_disk.append(_open(directory, digest)[0])
            _open(directory, digest, check=True)  # brings the pages back
            seconds, checked = _open(directory, digest, check=True)
            opening.append(seconds)
            checking.append(checked)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    label = f"{tokens:,} tokens ({size / 1e6:,.1f} MB)"
    return [
        milliseconds(f"open {label}", opening, target=at_most(20)),
        milliseconds("its first opening, pages dropped", from_disk),
        milliseconds("checking it", checking, note=f"{size / 1e9 / statistics.median(checking):.2f} GB/s"),
    ]


def _open(directory: Path, digest: str, *, check: bool = False) -> tuple[float, float]:
    began = time.perf_counter()
    with open_artifact(directory, expect_digest=digest) as artifact:
        opened = time.perf_counter()
        if check:
            artifact.verify()
        return opened - began, time.perf_counter() - opened


def _write(bench: Workbench, directory: Path, tokens: int) -> tuple[str, int]:
    """An artifact of `tokens` with noise for KV. Its digest and the bytes of its files."""
    facts, layout = bench.model.facts, bench.plan.layout
    token_ids = (bench.token_ids * -(-tokens // len(bench.token_ids)))[:tokens]
    with ArtifactWriter(directory, facts.geometry, tokens, 0) as writer:
        noise = torch.randn(writer.segment.keys[0].shape, dtype=torch.float32)
        for tensor in (*writer.segment.keys, *writer.segment.values):
            tensor.copy_(noise)
        manifest = writer.finish(
            token_ids,
            key=key_of({"benchmark": "open", "tokens": tokens, "context": context_checksum(None, token_ids)}),
            module_id="noise",
            title="noise",
            tenant_id=bench.record.tenant_id,
            scope=Scope("public"),
            model=ModelIdentity(facts.name, facts.revision, facts.fingerprint),
            tokenizer_fingerprint=facts.tokenizer_fingerprint,
            layout=LayoutIdentity(layout.id, layout.version, layout.checksum),
            parent=None,
            parent_context=None,
            rope=facts.rope,
            numerics=numerics(bench.model, 0),
            sources=(),
        )
    return manifest.digest, sum(entry.bytes for entry in manifest.files)
