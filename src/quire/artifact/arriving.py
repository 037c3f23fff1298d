"""Hashing a mapped file while it is still being read.

A page of a mapping is read when it is touched, and who touches it waits for the disk. So a thread asks for the pages in
order, piece by piece, and each piece is hashed while the next ones are read: a file takes the time of reading it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from blake3 import blake3

from quire.artifact.identity import digest_bytes
from quire.errors import ArtifactUnreadable, lack_of

PIECE = 8 << 20  # bytes
POPULATE_READ = 22  # MADV_POPULATE_READ of Linux 5.14, which Python has no name for


def digest_mapped(mapping: mmap.mmap | memoryview, name: str) -> str:
    """BLAKE3 of a whole mapped file as ``b3:<64 hex>``, on all cores.

    Raises:
        MemoryExhausted.
        ArtifactUnreadable: a page cannot be read, where the system can say so; else the process gets SIGBUS.
    """
    if len(mapping) <= PIECE:
        return digest_bytes(mapping)
    hashed = blake3(max_threads=blake3.AUTO)
    begins = range(0, len(mapping), PIECE)
    with ThreadPoolExecutor(1, thread_name_prefix="quire-read") as reader, memoryview(mapping) as whole:
        try:
            for begin, arrived in [(begin, reader.submit(_read, mapping, begin, name)) for begin in begins]:
                arrived.result()
                with whole[begin : begin + PIECE] as piece:
                    hashed.update(piece)
        finally:
            reader.shutdown(cancel_futures=True)
    return f"b3:{hashed.hexdigest()}"


def _read(mapping: mmap.mmap | memoryview, begin: int, name: str) -> None:
    """Have the pages of one piece read and mapped. Where that cannot be asked for, whoever touches them reads them."""
    if sys.platform != "linux":
        return
    size = min(PIECE, len(mapping) - begin)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping, begin))
    libc = ctypes.CDLL(None, use_errno=True)
    while libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), POPULATE_READ):
        number = ctypes.get_errno()
        if number == errno.EINTR:
            continue
        if number in (errno.EINVAL, errno.ENOSYS):  # an older kernel
            return
        if lack := lack_of(OSError(number, os.strerror(number)), name):
            raise lack
        reason = "the disk failed, or the file was cut" if number == errno.EFAULT else os.strerror(number)
        raise ArtifactUnreadable(
            f"{name}: bytes {begin} to {begin + size} cannot be read: {reason}",
            hint="check the disk, then compile the module again or pull a clean copy",
        )
