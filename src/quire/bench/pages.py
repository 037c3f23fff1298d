"""Where the bytes of files are: on the disk only, in the page cache, or mapped by a process."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
from dataclasses import dataclass
from pathlib import Path

from quire.errors import MeasurementFailed

MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)")
_NEEDS_PROC = "run this section on Linux, or leave it out with --only"


@dataclass(frozen=True, slots=True)
class Residency:
    """Bytes as /proc/PID/smaps counts them (proc(5)). `pss`: each page divided by the number of its users."""

    rss: int
    pss: int
    shared: int
    private: int


def drop_pages(directory: Path) -> None:
    """Ask the kernel to forget the pages of all files in `directory`; it keeps those that any process maps."""
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # a page that is not on the disk yet stays
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def resident_share(directory: Path) -> float:
    """The share of the pages of the files in `directory` that are in memory, by mincore(2). Changes nothing.

    Raises:
        MeasurementFailed: the system refuses to tell.
    """
    resident = total = 0
    for path in directory.iterdir():
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapping:
            pages = -(-len(mapping) // mmap.PAGESIZE)
            vector = (ctypes.c_ubyte * pages)()
            start = ctypes.c_char.from_buffer(mapping)
            failed = ctypes.CDLL(None, use_errno=True).mincore(
                ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(len(mapping)), vector
            )
            del start  # or the mapping could not be closed
        if failed:
            raise MeasurementFailed(f"mincore on {path}: {os.strerror(ctypes.get_errno())}", hint=_NEEDS_PROC)
        resident += sum(1 for page in vector if page & 1)
        total += pages
    return resident / total if total else 0.0


def own_residency() -> Residency:
    """All memory of this process, from /proc/self/smaps_rollup.

    Raises:
        MeasurementFailed: a system without it.
    """
    return _sum(_read("smaps_rollup").splitlines())


def residency_of(directory: Path) -> Residency:
    """The memory of this process that is mapped from files in `directory`, from /proc/self/smaps."""
    prefix, ours, lines = f"{directory.resolve()}/", False, []
    for line in _read("smaps").splitlines():
        if found := MAPPING.fullmatch(line):
            ours = found[1].startswith(prefix)
        elif ours:
            lines.append(line)
    return _sum(lines)


def reset_peak(pid: int) -> None:
    """Let the peak of `peak_resident` start anew from what is resident now (proc(5), clear_refs).

    Raises:
        MeasurementFailed: a system without it.
    """
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    except OSError as error:
        raise MeasurementFailed(
            f"/proc/{pid}/clear_refs cannot be written: {error.strerror}", hint=_NEEDS_PROC
        ) from error


def peak_resident(pid: int) -> int:
    """The most bytes resident in process `pid` since `reset_peak`: exact, and at no cost to the process."""
    return _status("VmHWM", pid)


def resident(pid: int) -> int:
    """Bytes resident in process `pid` now, shared pages included."""
    return _status("VmRSS", pid)


def cpu_seconds(pid: int) -> float:
    """Seconds of processor time that all threads of `pid` have used (proc(5), stat)."""
    fields = _read("stat", pid).rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(name: str, pid: int) -> int:
    for line in _read("status", pid).splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise MeasurementFailed(f"expected {name} in /proc/{pid}/status, found none", hint=_NEEDS_PROC)


def _read(name: str, pid: int | str = "self") -> str:
    path = Path("/proc", str(pid), name)
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise MeasurementFailed(f"{path} cannot be read: {error.strerror}", hint=_NEEDS_PROC) from error


def _sum(lines: list[str]) -> Residency:
    kilobytes: dict[str, int] = {}
    for line in lines:
        name, _, amount = line.partition(":")
        if amount.endswith(" kB"):
            kilobytes[name] = kilobytes.get(name, 0) + int(amount.removesuffix(" kB"))

    def total(*names: str) -> int:
        return 1024 * sum(kilobytes.get(name, 0) for name in names)

    return Residency(
        total("Rss"), total("Pss"), total("Shared_Clean", "Shared_Dirty"), total("Private_Clean", "Private_Dirty")
    )
