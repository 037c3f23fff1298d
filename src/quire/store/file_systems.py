"""On which file system a path lies, and whether other machines write there too.

On a network file system locks may be refused or hold on one machine only, a file that another machine shortens fails
here later, and what was changed there shows here after the life of the client's attribute cache.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quire.telemetry import fields

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "orangefs", "glusterfs"),
    *("gfs2", "ocfs2", "coda", "virtiofs", "prl_fs", "vboxsf", "vmhgfs", "panfs", "wekafs"),
}
# FUSE names its program after a dot. These keep their files on this machine; all others are taken to be elsewhere.
LOCAL_FUSE = {"fuseblk", "fuse.fuse-overlayfs", "fuse.bindfs", "fuse.mergerfs", "fuse.ntfs-3g", "fuse.lxcfs"}


@dataclass(frozen=True, slots=True)
class FileSystem:
    """`kind`: as the system calls it, e.g. ``ext4``, ``nfs4``, ``fuse.sshfs``; "" where it is not known."""

    kind: str
    is_network: bool


def file_system_of(path: Path, mounts: Path = MOUNTS) -> FileSystem:
    """The file system of `path`, or of the nearest directory above it that exists. Never raises.

    `mounts`: in the form of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).
    """
    path = path.absolute()
    place = next((p for p in (path, *path.parents) if os.path.exists(p)), Path("/"))
    name = os.path.realpath(place)
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return FileSystem("", is_network=False)  # not Linux
    kind = kind_of(name, lines)
    return FileSystem(kind, is_elsewhere(kind))


def is_elsewhere(kind: str) -> bool:
    """Whether file systems of this kind keep their files on other machines."""
    return kind in NETWORK or (kind.startswith("fuse") and kind not in LOCAL_FUSE)


def kind_of(name: str, lines: Iterable[str]) -> str:
    """The kind of the mount that `name`, a real path, lies in, by lines of mountinfo; "" where none fits."""
    longest, kind = -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        columns = before.split()
        if len(columns) < 5 or not after:
            continue
        point = _unescaped(columns[4]).rstrip("/")
        if len(point) >= longest and (name == point or name.startswith(f"{point}/")):  # a later one covers an earlier
            longest, kind = len(point), after.split()[0]
    return kind


def warn_of_network(places: dict[str, Path], mounts: Path = MOUNTS) -> None:
    """Log a line for each of `places`, by what lies there, that is on a network file system."""
    for what, place in places.items():
        if (found := file_system_of(place, mounts)).is_network:
            log.warning(
                "%s on a network file system: locks may fail or hold on this machine only, and changes by others are "
                "noticed late; use a local disk, and an object store to share (docs/operating.md)",
                what,
                extra=fields(path=str(place), file_system=found.kind),
            )


def _unescaped(name: str) -> str:
    r"""Blanks and the like are written as ``\040`` there."""
    for code in (r"\040", r"\011", r"\012", r"\134"):
        name = name.replace(code, chr(int(code[1:], 8)))
    return name
