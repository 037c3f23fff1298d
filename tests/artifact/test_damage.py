"""A damaged artifact never passes, and never raises anything but an ArtifactError."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from quire.artifact import ArtifactWriter, FileEntry, Manifest, digest_bytes, digest_file, open_artifact
from quire.core import KVGeometry
from quire.errors import (
    ArtifactError,
    ArtifactMissing,
    ArtifactTruncated,
    ArtifactUnreadable,
    ChecksumMismatch,
    DescriptorsExhausted,
    FormatUnsupported,
    ManifestInvalid,
    MemoryExhausted,
    QuireError,
    ShardInvalid,
    StoreFull,
    StoreUnreadable,
    StoreUnwritable,
)

from .samples import GEOMETRY, TOKEN_IDS, Sample, facts, rewrite_manifest, write

KV = "kv-00000.safetensors"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    directory = tmp_path_factory.mktemp("sample") / "a"
    return Sample(directory, write(directory))


@pytest.fixture
def copy(sample: Sample, tmp_path: Path) -> Path:
    return sample.copy(tmp_path / "copy")


def check(directory: Path, digest: str | None) -> None:
    with open_artifact(directory, expect_digest=digest) as artifact:
        artifact.verify()


def put(path: Path, content: bytes) -> None:
    path.unlink()  # a new file: some file systems wait for the disk when one is truncated and written again
    path.write_bytes(content)


def damages(files: dict[str, bytes], count: int) -> Iterator[tuple[str, bytes]]:
    chance = random.Random(20260)
    for _ in range(count):
        name = chance.choice(sorted(files))
        content = bytearray(files[name])
        match chance.randrange(6):
            case 0 | 1:  # anywhere
                content[chance.randrange(len(content))] ^= chance.randrange(1, 256)
            case 2 | 3:  # where the structure is
                content[chance.randrange(min(400, len(content)))] ^= 1 << chance.randrange(8)
            case 4:
                del content[chance.randrange(len(content)) :]
            case 5:
                content.extend(bytes(chance.randrange(1, 5000)))
        yield name, bytes(content)


def test_no_random_damage_passes(sample: Sample, copy: Path) -> None:
    files = {path.name: path.read_bytes() for path in copy.iterdir()}
    for name, content in damages(files, 2000):
        put(copy / name, content)
        with pytest.raises(ArtifactError) as refusal:
            check(copy, sample.manifest.digest)
        assert name in refusal.value.message
        put(copy / name, files[name])
    check(copy, sample.manifest.digest)


def test_no_damage_of_an_unnamed_artifact_raises_anything_else(copy: Path) -> None:
    """Without the digest a changed manifest may stand for itself; it is never a crash."""
    files = {path.name: path.read_bytes() for path in copy.iterdir()}
    for name, content in damages(files, 1000):
        put(copy / name, content)
        try:
            check(copy, None)
        except ArtifactError:
            pass
        else:
            assert name == "manifest.json"
        put(copy / name, files[name])


def test_swapped_files_are_found(sample: Sample, copy: Path, tmp_path: Path) -> None:
    with ArtifactWriter(tmp_path / "other", GEOMETRY, 5, 0, shard_bytes=16384) as writer:
        other = writer.finish([1, 2, 3, 4, 5], **facts())
    for entry in other.files:
        shutil.copyfile(copy / entry.name, tmp_path / "kept")
        shutil.copyfile(tmp_path / "other" / entry.name, copy / entry.name, follow_symlinks=False)
        with pytest.raises(ChecksumMismatch, match=entry.name):
            check(copy, sample.manifest.digest)
        shutil.copyfile(tmp_path / "kept", copy / entry.name)
    os.rename(copy / "kv-00001.safetensors", tmp_path / "swap")
    os.rename(copy / KV, copy / "kv-00001.safetensors")
    os.rename(tmp_path / "swap", copy / KV)
    with pytest.raises(ArtifactTruncated):
        check(copy, sample.manifest.digest)
    with pytest.raises(ChecksumMismatch, match=r"manifest\.json"):
        check(tmp_path / "other", sample.manifest.digest)


def test_a_file_swapped_after_opening_does_not_matter(sample: Sample, copy: Path) -> None:
    """What is verified is what is mapped, whatever the path names by then."""
    good = (copy / KV).read_bytes()
    with open_artifact(copy, expect_digest=sample.manifest.digest) as artifact:
        (copy / KV).unlink()
        (copy / KV).write_bytes(bytes(len(good)))
        artifact.verify()
    bad = bytearray(good)
    bad[-5000] ^= 1
    (copy / KV).write_bytes(bad)
    with open_artifact(copy, expect_digest=sample.manifest.digest) as artifact:
        (copy / KV).unlink()
        (copy / KV).write_bytes(good)
        with pytest.raises(ChecksumMismatch, match=KV):
            artifact.verify()
        assert not artifact.verified


@pytest.mark.parametrize(
    "replacement",
    [
        lambda path: None,
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path.parent / "elsewhere"),
        lambda path: path.symlink_to(path),
    ],
    ids=["nothing", "directory", "fifo", "device link", "link", "loop"],
)
@pytest.mark.parametrize("name", ["manifest.json", "tokens.safetensors", KV])
def test_only_regular_files_count(sample: Sample, copy: Path, name: str, replacement: Callable[[Path], object]) -> None:
    (copy / name).rename(copy / "elsewhere")
    replacement(copy / name)
    with pytest.raises(ArtifactMissing, match=name):
        check(copy, sample.manifest.digest)


def test_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none", tmp_path / "file", tmp_path / ("x" * 300)):
        with pytest.raises(ArtifactMissing):
            check(path, None)
    with pytest.raises(ArtifactError, match="expected a digest"):
        check(tmp_path, "b3:12")
    with pytest.raises(ArtifactMissing):
        digest_file(tmp_path)
    with pytest.raises(ArtifactMissing):
        digest_file(tmp_path / "none")


def test_errors_name_both_sides(sample: Sample, copy: Path) -> None:
    content = bytearray((copy / KV).read_bytes())
    content[-5000] ^= 1
    (copy / KV).write_bytes(content)
    with pytest.raises(ChecksumMismatch) as refusal:
        check(copy, sample.manifest.digest)
    assert sample.manifest.files[1].digest in refusal.value.message
    assert digest_bytes(bytes(content)) in refusal.value.message
    assert refusal.value.hint


def forge(copy: Path, name: str, at: int, value: int) -> None:
    """Change one byte and give the manifest the digest of the result."""
    content = bytearray((copy / name).read_bytes())
    content[at] = value
    (copy / name).write_bytes(content)

    def blessed(manifest: Manifest) -> Manifest:
        entries = tuple(
            FileEntry(entry.name, entry.bytes, digest_bytes(content)) if entry.name == name else entry
            for entry in manifest.files
        )
        return replace(manifest, files=entries)

    rewrite_manifest(copy, blessed)


def test_digests_do_not_excuse_a_wrong_header(copy: Path) -> None:
    for name in ("tokens.safetensors", KV):
        original = (copy / name).read_bytes()
        for at in (0, 7, 8, 20, 4095):
            forge(copy, name, at, original[at] ^ 1)
            with pytest.raises(ShardInvalid, match=f"byte {at} "):
                check(copy, None)
            (copy / name).write_bytes(original)


def test_digests_do_not_excuse_bytes_in_the_padding(copy: Path) -> None:
    forge(copy, KV, 8191, 1)
    with pytest.raises(ShardInvalid, match=r"pad\.0"):
        check(copy, None)


def test_digests_do_not_excuse_negative_or_other_tokens(copy: Path) -> None:
    original = (copy / "tokens.safetensors").read_bytes()
    forge(copy, "tokens.safetensors", 4096, 6)
    with pytest.raises(ChecksumMismatch, match="context_checksum"):
        check(copy, None)
    (copy / "tokens.safetensors").write_bytes(original)
    forge(copy, "tokens.safetensors", 4099, 0x80)
    with pytest.raises(ShardInvalid, match="token ids"):
        check(copy, None)


def test_a_newer_format_is_named_as_such(copy: Path) -> None:
    rewrite_manifest(copy, lambda manifest: replace(manifest, format_version=2))
    with pytest.raises(FormatUnsupported, match="format version 1 or older, found 2"):
        check(copy, None)


def test_a_manifest_over_the_limit(copy: Path) -> None:
    (copy / "manifest.json").write_bytes(b" " * (1 << 20) + b"{}")
    with pytest.raises(ManifestInvalid, match="at most 1048576 bytes"):
        check(copy, None)


def test_a_full_disk_is_an_error_not_a_crash(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(small)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting is not permitted here")
    try:
        large = KVGeometry(8, 4, 64, "float32")
        with pytest.raises(StoreFull) as refusal:
            ArtifactWriter(small / "a", large, 128, 0, shard_bytes=200_000)
        needed = 4096 + 4 * 128 + 8 * (4096 + 2 * 4 * 64 * 128 * 4)
        assert f"{needed:,} bytes needed, 262,144 bytes free" in refusal.value.message
        assert list(small.iterdir()) == []
        write(small / "b")
        subprocess.run(["mount", "-o", "remount,ro", small], check=True)
        check(small / "b", None)
        with pytest.raises(StoreUnwritable):
            write(small / "c")
    finally:
        subprocess.run(["umount", "-l", small], check=True)


@pytest.mark.parametrize("offered", [True, False])
def test_file_systems_that_cannot_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offered: bool) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    if offered:
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    else:
        monkeypatch.delattr(os, "posix_fallocate")
    check(tmp_path / "a", write(tmp_path / "a").digest)
    assert (tmp_path / "a" / KV).stat().st_blocks * 512 >= 20480


def test_an_interrupted_reservation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = os.posix_fallocate
    made = []

    def interrupted(descriptor: int, offset: int, size: int) -> None:
        made.append(size)
        if len(made) == 2:
            raise KeyboardInterrupt
        reserve(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ArtifactWriter(tmp_path / "a", GEOMETRY, len(TOKEN_IDS), 0)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EIO, ArtifactUnreadable),
        (errno.EUCLEAN, ArtifactUnreadable),
        (errno.ENOENT, ArtifactMissing),
        (errno.ENOTDIR, ArtifactMissing),
        (errno.EMFILE, DescriptorsExhausted),
        (errno.ENFILE, DescriptorsExhausted),
        (errno.ENOMEM, MemoryExhausted),
        *((number, StoreUnreadable) for number in (errno.EACCES, errno.EPERM, errno.ESTALE, errno.ETIMEDOUT)),
        *((number, StoreUnreadable) for number in (errno.ENOLCK, errno.EINTR, errno.ENOTCONN, errno.EREMOTEIO + 9000)),
    ],
)
def test_only_loss_and_a_failing_medium_are_damage(number: int, kind: type[QuireError]) -> None:
    error = ArtifactError.from_os(OSError(number, os.strerror(number)), KV, hint="fetch it again")
    assert type(error) is kind
    assert error.hint
    assert isinstance(error, ArtifactError) == ("fetch it again" in error.hint)
