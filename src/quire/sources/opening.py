"""From a path to bytes to Unicode text, without hanging, without guessing an encoding."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from quire.errors import QuireError, SourceNotFound, SourceNotText, SourceTooLarge, SourceUnreadable, lack_of
from quire.sources.canonical import plain
from quire.sources.suggestion import did_you_mean

MAX_BYTES = 64 * 1024 * 1024

# Without O_NONBLOCK, a FIFO put in place of the file between stat and open would block for ever.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)
# UTF-32-LE begins with the mark of UTF-16-LE, so it is tried first.
_FOREIGN_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def read_bytes(path: Path, name: str, max_bytes: int) -> bytes:
    """All bytes of the regular file at `path`; its size is checked before anything is read.

    Raises SourceNotFound, SourceUnreadable (not a regular file, denied, or changed while it was read),
    SourceTooLarge or ResourceError.
    """
    try:
        _require_file(os.stat(path), name, max_bytes)
        descriptor = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        raise _cannot_open(path, name, error) from error
    try:
        before = os.fstat(descriptor)
        _require_file(before, name, max_bytes)
        data = _read_up_to(descriptor, before.st_size + 1)
        after = os.fstat(descriptor)
    except OSError as error:
        raise lack_of(error, name) or SourceUnreadable(
            f"{name}: expected a readable file, but reading failed: {_reason(error)}"
        ) from error
    finally:
        os.close(descriptor)
    if len(data) != before.st_size or (before.st_size, before.st_mtime_ns) != (
        after.st_size,
        after.st_mtime_ns,
    ):
        raise SourceUnreadable(
            f"{name}: expected a file at rest of {before.st_size} bytes, but it changed while it was read",
            hint="wait until the file is completely written, then try again",
        )
    return data


def _read_up_to(descriptor: int, size: int) -> bytes:
    chunks: list[bytes] = []
    while size > 0 and (chunk := os.read(descriptor, min(size, 1 << 20))):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def _require_file(status: os.stat_result, name: str, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((label for test, label in _KINDS if test(status.st_mode)), "something else")
        hint = "name a file in it, or collect the whole directory" if stat.S_ISDIR(status.st_mode) else ""
        raise SourceUnreadable(f"{name}: expected a regular file, found {kind}", hint=hint or "copy it to a file")
    if status.st_size > max_bytes:
        raise SourceTooLarge(
            f"{name}: expected at most {max_bytes} bytes, found {status.st_size}",
            hint="split the file, or leave it out of the module's sources",
        )


def _cannot_open(path: Path, name: str, error: OSError | ValueError) -> QuireError:
    if lack := lack_of(error, name):
        return lack
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ELOOP:
        return SourceUnreadable(f"{name}: expected a file, found a loop of symbolic links", hint="fix the link")
    if number in (errno.ENOENT, errno.ENOTDIR) and path.is_symlink():
        target = os.readlink(path)
        return SourceUnreadable(
            f"{name}: expected a file, found a link to {target}, which is not there",
            hint="fix or remove the link",
        )
    if number in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG) or isinstance(error, ValueError):
        return SourceNotFound(
            f"{name}: expected a file, found nothing there", hint=did_you_mean(path) or "check the path"
        )
    if number in (errno.EACCES, errno.EPERM):
        return SourceUnreadable(f"{name}: expected a readable file, but permission was denied", hint="chmod +r it")
    return SourceUnreadable(f"{name}: expected a readable file, but opening failed: {_reason(error)}")


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def decode(data: bytes, name: str) -> str:
    """`data` as UTF-8 text in NFC with LF line ends (`canonical.plain`).

    Raises SourceNotText with the offset of the first byte that is not text, and for control characters.
    """
    for mark, encoding in _FOREIGN_MARKS:
        if data.startswith(mark):
            raise SourceNotText(
                f"{name}: expected UTF-8, found {encoding} with a byte order mark",
                hint=f"convert it: iconv -f {encoding} -t UTF-8 {name}",
            )
    nul = data.find(b"\0")
    if nul >= 0:
        raise SourceNotText(
            f"{name}: expected UTF-8 text, found a NUL byte at offset {nul}; it is a binary file",
            hint="export it as markdown, text, HTML, PDF, JSON or OpenAPI",
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceNotText(
            f"{name}: expected UTF-8, found byte 0x{data[error.start]:02x} at offset {error.start}",
            hint=f"convert it, for example: iconv -f WINDOWS-1252 -t UTF-8 {name}",
        ) from error
    return plain(text, name)


def looks_binary(path: Path) -> bool:
    """Whether a file holds a NUL byte in its first 8 KiB (git's rule) or is not a regular file.

    A file that cannot be opened is not called binary: reading it will say why.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return True
        descriptor = os.open(path, _FLAGS)
        try:
            return b"\0" in os.read(descriptor, 8192)
        finally:
            os.close(descriptor)
    except OSError:
        return False
