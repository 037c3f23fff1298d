"""Files as memory: mapped once, viewed as tensors, unmapped when the last view is gone."""

from __future__ import annotations

import mmap
import os
import stat
import sys
from typing import TYPE_CHECKING

from quire.artifact.shards import FilePlan, TensorSpan
from quire.core import KVSegment
from quire.errors import ArtifactMissing, ArtifactTruncated, ArtifactUnreadable, FormatUnsupported
from quire.file_identity import FileIdentity

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    ReadIn = Callable[[int, int], mmap.mmap]  # of a descriptor and a size; raises OSError, ValueError

_MEMORY = "check the limits on open files and virtual memory (ulimit -n, ulimit -v)"
REPLACE = "the artifact is damaged: run `quire fsck --repair`, and `quire build` where that cannot fetch a clean copy"


def open_regular(directory: int, name: str) -> int:
    """A read-only descriptor of the regular file `name` in the open `directory`; links are not followed.

    `ArtifactMissing` when there is none or it is something else, `ArtifactUnreadable` when it does not open.
    """
    try:
        # O_NONBLOCK: opening a FIFO that was put in the place of a file must not wait for its writer.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError as error:
        raise ArtifactMissing(f"expected {name} in the artifact, found nothing", hint=REPLACE) from error
    except OSError as error:
        kind = ArtifactMissing if _is_special(directory, name) else ArtifactUnreadable
        raise kind(f"{name} does not open as a regular file: {error.strerror}", hint=REPLACE) from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise ArtifactMissing(f"expected {name} to be a regular file, found something else", hint=REPLACE)
    return file


def map_file(file: int, size: int) -> mmap.mmap:
    """Map a file, copy-on-write: processes share its pages, and what one of them writes stays its own."""
    return mmap.mmap(file, size, access=mmap.ACCESS_COPY)


def copy_file(file: int, size: int) -> mmap.mmap:
    """Read a file into memory of this process, which nothing that is done to the file changes. `OSError`."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with memoryview(memory) as view:
        at = 0
        while at < size:
            with view[at:] as rest:
                read = os.preadv(file, [rest], at)
            if not read:
                raise OSError(f"{size:,} bytes expected, it ends after {at:,}")
            at += read
    return memory


def read_private(directory: int, name: str, size: int, read_in: ReadIn) -> tuple[mmap.mmap, FileIdentity]:
    """The bytes of `name` as memory that `read_in` makes of it, and the identity that the file had before.

    `ArtifactTruncated` unless the file has exactly `size` bytes; else as `open_regular`.
    """
    file = open_regular(directory, name)
    try:
        identity = FileIdentity.of(os.fstat(file))
        if identity.size != size:
            raise ArtifactTruncated(f"{name}: expected {size} bytes, found {identity.size}", hint=REPLACE)
        return read_in(file, size), identity
    except (OSError, ValueError) as error:
        raise ArtifactUnreadable(f"{name} cannot be mapped: {error}", hint=_MEMORY) from error
    finally:
        os.close(file)


def segment_over(
    files: list[tuple[FilePlan, mmap.mmap]], dtype: str, position_start: int, token_count: int
) -> KVSegment:
    """The KV that lies in mapped shards, in layer order, without a copy.

    Tensors hold their mapping open; nobody may close it under them.
    """
    if sys.byteorder != "little":
        raise FormatUnsupported(
            "expected a little-endian machine, found a big-endian one",
            hint="the tensors of an artifact are read in place: use x86-64 or ARM",
        )
    views = [_view(mapping, span, dtype) for plan, mapping in files for span in plan.tensors]
    return KVSegment(tuple(views[0::2]), tuple(views[1::2]), position_start, token_count)


def _view(mapping: mmap.mmap, span: TensorSpan, dtype: str) -> torch.Tensor:
    import torch  # seconds to load; those who only read manifests do without

    kind: torch.dtype = getattr(torch, dtype)
    count = span.size // kind.itemsize
    return torch.frombuffer(mapping, dtype=kind, count=count, offset=span.offset).view(span.shape)


def _is_special(directory: int, name: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except OSError:
        return False
