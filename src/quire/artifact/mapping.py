"""Files as memory: mapped once, viewed as tensors, unmapped when the last view is gone.

A mapped file holds no descriptor: `mmap.mmap` would keep a copy of it, so that open modules took two each.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import stat
import sys
import weakref
from typing import TYPE_CHECKING

from quire.artifact.shards import FilePlan, TensorSpan
from quire.core import KVSegment
from quire.errors import ArtifactError, ArtifactMissing, ArtifactTruncated, FormatUnsupported
from quire.file_identity import FileIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    ReadIn = Callable[[int, int], memoryview]  # of a descriptor and a size; raises OSError
    Guard = Callable[[int, int], Callable[[], None]]  # of an address and a size; called again before they are unmapped

REPLACE = "the artifact is damaged: run `quire fsck --repair`, and `quire build` where that cannot fetch a clean copy"


def open_regular(directory: int, name: str) -> int:
    """A read-only descriptor of the regular file `name` in the open `directory`; links are not followed.

    `ArtifactMissing` when there is none or it is something else; what `ArtifactError.from_os` gives for all else.
    """
    try:
        # O_NONBLOCK: opening a FIFO that was put in the place of a file must not wait for its writer.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        if _is_special(directory, name):
            raise ArtifactMissing(f"{name} does not open as a regular file: {error.strerror}", hint=REPLACE) from error
        raise ArtifactError.from_os(error, name, hint=REPLACE) from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise ArtifactMissing(f"expected {name} to be a regular file, found something else", hint=REPLACE)
    return file


def map_file(file: int, size: int, guard: Guard | None = None) -> memoryview:
    """Map `size` bytes of an open file, copy-on-write: processes share its pages, and writes stay private.

    The file may be closed then. It is unmapped when the last view is gone. `guard`: told of the range before anything
    is read; what it returns is called before the range is unmapped. `OSError`.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    address = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, file, 0)
    if address == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    release = guard(address, size) if guard else None
    mapped = (ctypes.c_ubyte * size).from_address(address)

    def unmap() -> None:
        if release:
            release()
        libc.munmap(address, size)

    # Not at the end of the process: threads may still read then, and the system unmaps all by itself.
    weakref.finalize(mapped, unmap).atexit = False
    return memoryview(mapped).cast("B")


def copy_file(file: int, size: int) -> memoryview:
    """Read a file into memory of this process, which nothing that is done to the file changes. `OSError`."""
    view = memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    at = 0
    while at < size:
        with view[at:] as rest:
            read = os.preadv(file, [rest], at)
        if not read:
            raise OSError(errno.EIO, f"{size:,} bytes expected, it ends after {at:,}")
        at += read
    return view


def read_private(directory: int, name: str, size: int, read_in: ReadIn) -> tuple[memoryview, FileIdentity]:
    """The bytes of `name` as memory that `read_in` makes of it, and the identity that the file had before.

    It is unmapped when the last view of it is gone. `ArtifactTruncated` unless the file has exactly `size` bytes,
    `MemoryExhausted`; else as `open_regular`.
    """
    file = open_regular(directory, name)
    try:
        identity = FileIdentity.of(os.fstat(file))
        if identity.size != size:
            raise ArtifactTruncated(f"{name}: expected {size} bytes, found {identity.size}", hint=REPLACE)
        return read_in(file, size), identity
    except OSError as error:
        raise ArtifactError.from_os(error, name, hint=REPLACE) from error
    finally:
        os.close(file)


def segment_over(
    files: Sequence[tuple[FilePlan, mmap.mmap | memoryview]], dtype: str, position_start: int, token_count: int
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


def _view(mapping: mmap.mmap | memoryview, span: TensorSpan, dtype: str) -> torch.Tensor:
    import torch  # seconds to load; those who only read manifests do without

    kind: torch.dtype = getattr(torch, dtype)
    count = span.size // kind.itemsize
    return torch.frombuffer(mapping, dtype=kind, count=count, offset=span.offset).view(span.shape)


def _is_special(directory: int, name: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except OSError:
        return False
