"""What is written is what is read: by us, by the stock library, twice, and byte for byte as recorded."""

from __future__ import annotations

import gc
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from quire.artifact import (
    Artifact,
    ArtifactWriter,
    Manifest,
    ParentIdentity,
    context_checksum,
    digest_bytes,
    digest_file,
    open_artifact,
)
from quire.core import KVGeometry
from quire.errors import ChecksumMismatch, ManifestInvalid, QuireError, StoreError

from .samples import GEOMETRY, PARENT, TOKEN_IDS, TWO_LAYERS, facts, fill, write

GOLDEN = Path(__file__).parent / "golden" / "manifest.json"
GOLDEN_DIGESTS = {
    "kv-00000.safetensors": "b3:2053020f613d7ad517a2c183f2b53185f1b7583d25158bd44ca9a4add919fc83",
    "kv-00001.safetensors": "b3:c1c6e8ccbeae680dcadbc649b8b77a30af6f9907f19a1150ef09b357109c2039",
    "manifest.json": "b3:dbda15e37d5f014b603b6255b0a329bb6a357bdc4102703adc997f2180c7c486",
    "tokens.safetensors": "b3:e48f0e95b2ad34d7ae4c62e9b0ef1ebb8c852891c2a563f2dd9da3d019ceb423",
}


def test_golden_bytes(tmp_path: Path) -> None:
    """The format does not change unnoticed."""
    write(tmp_path / "a")
    found = {path.name: digest_file(path) for path in (tmp_path / "a").iterdir()}
    assert found == GOLDEN_DIGESTS
    assert (tmp_path / "a" / "manifest.json").read_bytes() == GOLDEN.read_bytes()


def test_the_manifest_digest_names_it(tmp_path: Path) -> None:
    manifest = write(tmp_path / "a")
    assert manifest.digest == digest_file(tmp_path / "a" / "manifest.json")
    with open_artifact(tmp_path / "a", expect_digest=manifest.digest) as artifact:
        assert artifact.manifest == manifest


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_kv_comes_back_exactly(tmp_path: Path, dtype: str) -> None:
    geometry = KVGeometry(3, 2, 4, dtype)
    manifest = write(tmp_path / "a", geometry=geometry)
    artifact = open_artifact(tmp_path / "a", expect_digest=manifest.digest)
    assert artifact.token_ids == TOKEN_IDS
    verified = [artifact.verified]
    artifact.verify()
    assert [*verified, artifact.verified] == [False, True]
    segment = artifact.segment
    assert (segment.position_start, segment.token_count) == (0, 5)
    for index, tensor in enumerate((*segment.keys, *segment.values)):
        expected = (torch.arange(40).reshape(2, 5, 4) % 251 - 125 + index).to(getattr(torch, dtype))
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor, expected)
        assert tensor.is_contiguous()
        assert tensor.data_ptr() % 4096 == 0


def test_the_stock_library_reads_it(tmp_path: Path) -> None:
    manifest = write(tmp_path / "a")
    artifact = open_artifact(tmp_path / "a", expect_digest=manifest.digest)
    loaded: dict[str, torch.Tensor] = {}
    for entry in manifest.files:
        loaded |= load_file(tmp_path / "a" / entry.name)
    assert loaded["token_ids"].tolist() == TOKEN_IDS
    assert loaded["token_ids"].dtype == torch.int32
    for layer in range(3):
        assert torch.equal(loaded[f"layers.{layer}.key"], artifact.segment.keys[layer])
        assert torch.equal(loaded[f"layers.{layer}.value"], artifact.segment.values[layer])
    with safe_open(tmp_path / "a" / "kv-00001.safetensors", "pt") as shard:
        assert sorted(shard.keys()) == ["layers.2.key", "layers.2.value", "pad.0", "pad.1"]


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    here = write(tmp_path / "a")
    script = "import sys, pathlib; from artifact.samples import write; write(pathlib.Path(sys.argv[1]))"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script, tmp_path / "b"], check=True, env=environment)
    for entry in here.files:
        assert (tmp_path / "a" / entry.name).read_bytes() == (tmp_path / "b" / entry.name).read_bytes()
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (tmp_path / "b" / "manifest.json").read_bytes()


def test_a_child_stands_after_its_parent(tmp_path: Path) -> None:
    root = write(tmp_path / "root")
    with ArtifactWriter(tmp_path / "child", GEOMETRY, 2, 5) as writer:
        fill(writer.segment)
        child = writer.finish([1, 2], **facts(parent=PARENT, parent_context=root.context_checksum))
    assert child.context_checksum == context_checksum(root.context_checksum, [1, 2])
    assert child.context_checksum != context_checksum(None, [*TOKEN_IDS, 1, 2])
    with open_artifact(tmp_path / "child", expect_digest=child.digest) as artifact:
        artifact.verify()
        assert artifact.segment.position_end == 7


def test_only_the_very_parent_will_do(tmp_path: Path) -> None:
    root, other = write(tmp_path / "root"), write(tmp_path / "other", title="Another")

    def child(name: str, start: int, context: str) -> Artifact:
        parent = ParentIdentity(root.module_id, root.version, root.key, root.digest)
        with ArtifactWriter(tmp_path / name, GEOMETRY, 2, start) as writer:
            writer.finish([1, 2], **facts(parent=parent, parent_context=context))
        return open_artifact(tmp_path / name, expect_digest=None)

    before = open_artifact(tmp_path / "root", expect_digest=root.digest)
    good = child("good", 5, root.context_checksum)
    good.check_follows(before)
    with pytest.raises(ChecksumMismatch, match=r"parent\.digest"):
        good.check_follows(open_artifact(tmp_path / "other", expect_digest=other.digest))
    with pytest.raises(ManifestInvalid, match="parent"):
        before.check_follows(good)
    with pytest.raises(ManifestInvalid, match=r"position_start: expected '?5"):
        child("gap", 6, root.context_checksum).check_follows(before)
    with pytest.raises(ChecksumMismatch, match="context_checksum"):
        child("elsewhere", 5, good.manifest.context_checksum).check_follows(before)


def test_files_are_read_only(tmp_path: Path) -> None:
    write(tmp_path / "a")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").iterdir()} == {0o444}


def test_shards_hold_whole_layers(tmp_path: Path) -> None:
    for shard_bytes, shards in ((1, 3), (TWO_LAYERS - 1, 3), (TWO_LAYERS, 2), (1 << 30, 1)):
        directory = tmp_path / str(shard_bytes)
        with ArtifactWriter(directory, GEOMETRY, 5, 0, shard_bytes=shard_bytes) as writer:
            manifest = writer.finish(TOKEN_IDS, **facts())
        assert len(manifest.files) == shards + 1
        open_artifact(directory, expect_digest=manifest.digest).verify()


def test_no_padding_where_pages_are_full(tmp_path: Path) -> None:
    with ArtifactWriter(tmp_path / "a", KVGeometry(2, 2, 512, "float32"), 4, 0) as writer:
        manifest = writer.finish([1, 2, 3, 4], **facts())
    assert [entry.bytes for entry in manifest.files] == [4096 + 16, 4096 + 4 * 16384]
    header = (tmp_path / "a" / "kv-00000.safetensors").read_bytes()[8:4096]
    assert list(json.loads(header)) == [f"layers.{i}.{part}" for i in (0, 1) for part in ("key", "value")]


def test_generation_may_write_into_it(tmp_path: Path) -> None:
    """A write stays private: the file, other readers and a later verify of them are untouched."""
    manifest = write(tmp_path / "a")
    first, second = (open_artifact(tmp_path / "a", expect_digest=manifest.digest) for _ in range(2))
    before = second.segment.keys[0].clone()
    first.segment.keys[0].zero_()
    assert torch.equal(second.segment.keys[0], before)
    second.verify()
    with pytest.raises(QuireError, match="kv-00000"):
        first.verify()


def test_an_open_writer_is_nothing_yet(tmp_path: Path) -> None:
    with ArtifactWriter(tmp_path / "a", GEOMETRY, 5, 0) as writer:
        fill(writer.segment)
        assert not (tmp_path / "a" / "manifest.json").exists()
    assert not (tmp_path / "a").exists()
    with pytest.raises(QuireError, match="finished or aborted"):
        _ = writer.segment


def test_a_failed_finish_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    sha = "sha256:" + "0" * 64
    for wrong in ({"module_id": "../etc"}, {"title": "a\nb"}, {"key": sha}, {"rope": {"x": float("nan")}}):
        with pytest.raises(QuireError), ArtifactWriter(tmp_path / "a", GEOMETRY, 5, 0) as writer:
            writer.finish(TOKEN_IDS, **facts(**wrong))
        assert list((tmp_path / "a").iterdir()) == []


@pytest.mark.parametrize("ids", [[1, 2, 3, 4], [1, 2, 3, 4, -1], [1, 2, 3, 4, 2**31], []])
def test_wrong_token_ids_are_refused(tmp_path: Path, ids: list[int]) -> None:
    with pytest.raises(ManifestInvalid), ArtifactWriter(tmp_path / "a", GEOMETRY, 5, 0) as writer:
        writer.finish(ids, **facts())


def test_impossible_numbers_are_refused(tmp_path: Path) -> None:
    for geometry, count, start in (
        (KVGeometry(0, 2, 4, "bfloat16"), 5, 0),
        (KVGeometry(3, 2, 4, "int8"), 5, 0),
        (GEOMETRY, 0, 0),
        (GEOMETRY, 5, -1),
        (GEOMETRY, 5, 2**31),
    ):
        with pytest.raises(ManifestInvalid):
            ArtifactWriter(tmp_path / "a", geometry, count, start)
    assert not (tmp_path / "a").exists()


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("mine")
    with pytest.raises(StoreError, match="to be empty"):
        ArtifactWriter(tmp_path, GEOMETRY, 5, 0)
    assert (tmp_path / "manifest.json").read_text() == "mine"


def test_nothing_stays_open_or_mapped(tmp_path: Path) -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("needs /proc")

    def held() -> tuple[int, int]:
        gc.collect()
        maps = Path("/proc/self/maps").read_text()
        return len(os.listdir("/proc/self/fd")), maps.count(str(tmp_path))

    before = held()
    for number in range(5):
        manifest = write(tmp_path / str(number))
        with ArtifactWriter(tmp_path / "aborted", GEOMETRY, 5, 0) as writer:
            fill(writer.segment)
        artifact = open_artifact(tmp_path / str(number), expect_digest=manifest.digest)
        artifact.verify()
        kept = artifact.segment.keys[0]
        artifact.close()
        assert kept.sum().isfinite()  # a tensor outlives its artifact
        assert held()[1] > before[1]
        with pytest.raises(QuireError, match="closed"):
            _ = artifact.segment
        del kept, artifact, writer
    assert held() == before


def test_opening_reads_no_kv(tmp_path: Path) -> None:
    """The time to open does not grow with the artifact: of 32 MB of KV only headers become resident."""
    if not Path("/proc/self/smaps").exists():
        pytest.skip("needs /proc")
    with ArtifactWriter(tmp_path / "a", KVGeometry(8, 4, 64, "float32"), 2048, 0) as writer:
        manifest = writer.finish([1] * 2048, **facts())
    artifact = open_artifact(tmp_path / "a", expect_digest=manifest.digest)
    assert _resident(tmp_path)["Rss"] <= 256  # kB; the kernel maps some pages around the one it was asked for
    artifact.verify()
    assert _resident(tmp_path)["Rss"] > 30_000
    assert _resident(tmp_path)["Anonymous"] == 0  # shared with every other process
    artifact.segment.keys[0][0, 0, 0] = 1
    assert 0 < _resident(tmp_path)["Anonymous"] <= 64


def _resident(under: Path) -> dict[str, int]:
    totals = {"Rss": 0, "Anonymous": 0}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, value = line.partition(":")
        if "-" in line.split()[0]:
            inside = str(under) in line
        elif inside and name in totals:
            totals[name] += int(value.split()[0])
    return totals


def test_manifest_reads_back_equal(tmp_path: Path) -> None:
    manifest = write(tmp_path / "a", rope={"factor": 1e20, "nested": {"list": [1, 2.5, None, True]}})
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert digest_bytes(manifest.to_bytes()) == manifest.digest
