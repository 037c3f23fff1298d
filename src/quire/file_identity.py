"""Whether a file is still the one that was opened, untouched: by what the file system says of it, not by its bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What of a file changes when it is written, cut, replaced or renamed. Times are in nanoseconds.

    The system alone sets `changed_ns`: who writes a file and puts its time of modification back is noticed. A new link
    or other permissions change it too, so a file with another identity may have the same bytes.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, info: os.stat_result) -> Self:
        return cls(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)

    def same_file(self, other: FileIdentity) -> bool:
        """Whether both are one file, whatever was done to it."""
        return (self.device, self.inode) == (other.device, other.inode)

    def difference(self, path: str | Path) -> str:
        """How the file at `path` differs from this one, in words; "" where it does not. It costs one `stat`."""
        try:
            found = FileIdentity.of(os.stat(path))
        except OSError as error:
            return f"it is not there any more ({error.strerror})"
        if found == self:
            return ""
        if not self.same_file(found):
            return "another file was put in its place"
        if found.size != self.size:
            return f"it had {self.size:,} bytes and has {found.size:,}"
        if found.modified_ns != self.modified_ns:
            return "it was written"
        return "its permissions, links or times were changed"
