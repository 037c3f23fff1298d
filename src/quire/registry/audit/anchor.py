"""The head of the chain, kept in a file outside the database: a log whose tail was cut off no longer reaches it.

The file is one line of fixed width: the number of records and the hash of the last. It is written after the records
have been committed, so after a crash it may trail them, and never runs ahead. Moving it forward heals that; a head
that the log contradicts is never moved, so that what was found once stays to be found.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quire.errors import (
    InvalidSetting,
    LocksUnavailable,
    QuireError,
    RegistryUnreadable,
    RegistryUnwritable,
    ResourceError,
    lack_of,
)
from quire.locking import flock
from quire.registry.audit.events import Head
from quire.registry.database import Database

log = logging.getLogger(__name__)

WIDTH = 96  # bytes: 18 digits, a colon, 67 of the hash, blanks, a line end


class Anchor:
    """One kept head. Any number of threads and processes may read and move it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> Head | None:
        """The kept head; None where none was ever kept. Raises RegistryUnreadable for a file that holds another thing.

        Another process may be in the middle of moving it: the lock waits for that.
        """
        try:
            with self._locked(os.O_RDONLY, fcntl.LOCK_SH) as descriptor:
                return self._read(descriptor)
        except FileNotFoundError:
            return None
        except LocksUnavailable as error:
            raise RegistryUnreadable(error.message, hint=error.hint) from error
        except OSError as error:
            raise lack_of(error, str(self.file)) or RegistryUnreadable(
                f"the kept head of the audit log {self.file} cannot be read: {error.strerror}",
                hint="check its permissions",
            ) from error

    def check_writable(self) -> None:
        """Raises RegistryUnwritable if `move` could not write. Called before a change is committed."""
        try:
            os.close(os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
        except OSError as error:
            raise self._unwritable(error) from error

    def move(self, to: Head, *, force: bool = False) -> None:
        """Keep `to`, unless the kept head is further on. Mutates the file. `force`: even then."""
        line = f"{to}".ljust(WIDTH - 1).encode() + b"\n"
        try:
            with self._locked(os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX) as descriptor:
                kept = None if force else self._read(descriptor)
                if kept is None or kept.records < to.records:
                    # In place, and never longer or shorter: one sector, which is written as a whole or not at all.
                    os.pwrite(descriptor, line, 0)
        except LocksUnavailable as error:
            raise RegistryUnwritable(error.message, hint=error.hint) from error
        except OSError as error:
            raise self._unwritable(error) from error

    @property
    def may_begin_here(self) -> bool:
        """Whether a log with records may have no kept head yet, without anything being wrong."""
        return False

    @contextmanager
    def _locked(self, flags: int, lock: int) -> Iterator[int]:
        descriptor = os.open(self.file, flags | os.O_CLOEXEC, 0o644)
        try:
            flock(descriptor, lock, self.file)
            yield descriptor
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int) -> Head | None:
        data = os.pread(descriptor, WIDTH + 1, 0)
        if not data:  # made by `check_writable`, and nothing was kept in it yet
            return None
        try:
            if len(data) != WIDTH:
                raise InvalidSetting(f"expected {WIDTH} bytes, found {len(data)} or more")
            return Head.parse(data.decode("ascii"))
        except (InvalidSetting, UnicodeDecodeError) as error:
            raise RegistryUnreadable(
                f"{self.file} does not hold the head of an audit log: {error}",
                hint="find out who changed it; `quire audit anchor` then keeps a new one, and records that it did",
            ) from error

    def _unwritable(self, error: OSError) -> QuireError:
        return lack_of(error, str(self.file)) or RegistryUnwritable(
            f"the kept head of the audit log {self.file} cannot be written: {error.strerror}",
            hint="check its permissions and free space",
        )


class SharedAnchor(Anchor):
    """The head that this machine has seen last of a log to which several write.

    Each machine keeps its own, from the first record on that it wrote. It must not stand in a revocation's way:
    where it cannot be written, that is logged.
    """

    @property
    def may_begin_here(self) -> bool:
        return True

    def check_writable(self) -> None:
        """It need not be."""

    def move(self, to: Head, *, force: bool = False) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            super().move(to, force=force)
        except (OSError, RegistryUnwritable, ResourceError) as error:
            if force:
                raise self._unwritable(error) if isinstance(error, OSError) else error from None
            log.error("the head of the audit log is not kept in %s: %s", self.file, error)


def anchor_of(database: Database, heads: Path | None) -> Anchor | None:
    """Where the head of a database's log is kept: beside the file, or of a server's in the directory `heads`."""
    if database.is_sqlite:
        return Anchor(Path(f"{database.place}.head"))
    return SharedAnchor(heads / f"registry-{database.fingerprint}.head") if heads else None
