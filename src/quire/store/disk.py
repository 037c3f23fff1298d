"""A store in a directory of a local file system.

    <root>/artifacts/<algorithm>-<hex>/    complete artifacts; a rename puts them there and takes them away
    <root>/tmp/<pid>-<random>/             staged, or on the way out; locked for as long as its owner lives
    <root>/removing/<algorithm>-<hex>      a note: this artifact is to go, and all there is of it elsewhere
    <root>/damaged/<algorithm>-<hex>/      a copy that did not hold, until a good one has come from the object store

Whether an owner lives is asked of its lock, never of its process id: ids are used again.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from quire.errors import ArtifactNotFound, StoreError
from quire.store.base import Lease, Store
from quire.store.locks import is_at, lock_exclusive, lock_shared, locked, try_lock

_DIGEST = re.compile(r"[a-z0-9]+:[0-9a-f]{64}")
_DIRECTORY = re.compile(r"[a-z0-9]+-[0-9a-f]{64}")
_Held = TypeVar("_Held", int, int | None)


class DiskLease(Lease):
    def __init__(self, directory: Path, descriptor: int) -> None:
        self.directory = directory
        self._descriptor: int | None = descriptor

    def is_current(self) -> bool:
        """Whether the artifact at its place is still the one that this keeps."""
        return self._descriptor is not None and is_at(self._descriptor, self.directory)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class DiskStore(Store):
    def __init__(self, root: Path) -> None:
        """A store at `root`, which is made by the first `stage`."""
        self.root = root.absolute()
        self._artifacts = self.root / "artifacts"
        self._tmp = self.root / "tmp"
        self._damaged = self.root / "damaged"
        self._removing = self.root / "removing"
        self._staged: dict[Path, int] = {}

    def stage(self) -> Path:
        with self._reporting():
            self._artifacts.mkdir(parents=True, exist_ok=True)
            path, descriptor = self._new_private()
        self._staged[path] = descriptor
        return path

    def commit(self, staged: Path, digest: str) -> Path:
        self._check_staged(staged)
        if not _DIGEST.fullmatch(digest):
            raise StoreError(
                f"expected a digest such as b3:<64 hex digits>, found {digest!r:.90}",
                hint="commit under the digest of the manifest",
            )
        target = self._place(digest)
        with self._reporting():
            _sync_tree(staged)
            try:
                os.rename(staged, target)
            except OSError:
                if not target.is_dir():
                    raise
                self.discard(staged)
                return target
            try:
                _sync(self._artifacts)
            finally:
                os.close(self._staged.pop(staged))
        return target

    def discard(self, staged: Path) -> None:
        self._check_staged(staged)
        with self._reporting():
            _remove(staged, self._staged.pop(staged))

    def locate(self, digest: str) -> Path:
        if self.has(digest):
            return self._place(digest)
        raise ArtifactNotFound(
            f"expected an artifact {digest!r:.90} in {self.root}, found none",
            hint="`quire ls` shows what is there; `quire build` makes what is missing",
        )

    def has(self, digest: str) -> bool:
        with self._reporting():
            return _DIGEST.fullmatch(digest) is not None and self._place(digest).is_dir()

    def check(self) -> None:
        with self._reporting(), suppress(FileNotFoundError):  # an empty store has no directory yet
            os.scandir(self._artifacts).close()

    def digests(self) -> list[str]:
        with self._reporting():
            names = sorted(os.listdir(self._artifacts)) if self._artifacts.is_dir() else []
        return [name.replace("-", ":") for name in names if _DIRECTORY.fullmatch(name)]

    def strays(self) -> list[Path]:
        with self._reporting():
            names = sorted(os.listdir(self._artifacts)) if self._artifacts.is_dir() else []
        return [self._artifacts / name for name in names if not _DIRECTORY.fullmatch(name)]

    def remove_stray(self, path: Path) -> None:
        if path not in self.strays():
            raise StoreError(f"expected a stray file of {self._artifacts}, found {path}", hint="see `quire fsck`")
        with self._reporting():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def size(self, digest: str) -> int:
        with self.lease(digest) as lease, self._reporting():
            return sum(path.lstat().st_size for path in lease.directory.rglob("*") if path.is_file())

    def delete(self, digest: str) -> bool:
        with self._reporting():
            source, descriptor = self._lock(digest, try_lock)
            if descriptor is None:
                return False
            try:
                doomed, owner = self._new_private()
                try:
                    os.rename(source, doomed / "artifact")
                    _sync(self._artifacts)
                finally:
                    _remove(doomed, owner)
            finally:
                os.close(descriptor)
        return True

    def begin_removal(self, digest: str) -> None:
        with self._reporting():
            self._removing.mkdir(parents=True, exist_ok=True)
            self._note(digest).touch()
            _sync(self._removing)

    def finish_removal(self, digest: str) -> bool:
        if self.has(digest) and not self.delete(digest):
            return False
        self.sweep()  # it may be on its way out already
        self.cancel_removal(digest)
        return True

    def cancel_removal(self, digest: str) -> None:
        with self._reporting():
            self._note(digest).unlink(missing_ok=True)

    def removals(self) -> list[str]:
        with self._reporting():
            names = sorted(os.listdir(self._removing)) if self._removing.is_dir() else []
        return [name.replace("-", ":") for name in names if _DIRECTORY.fullmatch(name)]

    def drop_copy(self, digest: str) -> bool:
        return self.delete(digest)

    def set_aside(self, damaged: Lease) -> bool:
        return False  # there is no other

    def quarantine(self, damaged: Lease) -> None:
        """Mutates: take the copy that `damaged` keeps out of its place, if it still is there, whoever leases it too."""
        if not isinstance(damaged, DiskLease) or not damaged.is_current():
            return
        aside = self._damaged / damaged.directory.name
        with self._reporting():
            self._damaged.mkdir(exist_ok=True)
            if aside.exists():
                shutil.rmtree(aside)
            os.rename(damaged.directory, aside)
            _sync(self._artifacts)

    def clear_quarantine(self, digest: str) -> None:
        """Mutates: forget the damaged copy of an artifact, if there is one."""
        with self._reporting(), suppress(FileNotFoundError):
            shutil.rmtree(self._damaged / digest.replace(":", "-"))

    def share(self, digest: str, tell: Callable[[int], None] = lambda _: None) -> int:
        self.locate(digest)  # all gateways are on this machine
        return 0

    def in_use(self, digest: str) -> bool:
        with self._reporting():
            _, descriptor = self._lock(digest, try_lock)
            if descriptor is not None:
                os.close(descriptor)
        return descriptor is None

    def lease(self, digest: str, tell: Callable[[int], None] = lambda _: None) -> Lease:
        with self._reporting():
            directory, descriptor = self._lock(digest, lock_shared)
        return DiskLease(directory, descriptor)

    def sweep(self) -> list[Path]:
        if not self._tmp.is_dir():
            return []
        with self._reporting(), ExitStack() as descriptors:
            with locked(self._tmp):
                stale = list(self._ownerless(descriptors))
            for path in stale:
                shutil.rmtree(path)
        return stale

    def _place(self, digest: str) -> Path:
        return self._artifacts / digest.replace(":", "-")

    def _note(self, digest: str) -> Path:
        return self._removing / digest.replace(":", "-")

    def _check_staged(self, staged: Path) -> None:
        if staged not in self._staged:
            raise StoreError(
                f"expected a directory that this store has staged, found {staged}",
                hint="stage, write, then commit or discard, each once",
            )

    def _new_private(self) -> tuple[Path, int]:
        self._tmp.mkdir(mode=0o700, exist_ok=True)
        # Under the lock that `sweep` takes, or it could find the directory before it has its own.
        with locked(self._tmp):
            path = self._tmp / f"{os.getpid()}-{secrets.token_hex(8)}"
            path.mkdir()
            return path, lock_exclusive(path)

    def _ownerless(self, descriptors: ExitStack) -> Iterator[Path]:
        """Private directories whose owner is gone; locked until `descriptors` closes."""
        for path in sorted(self._tmp.iterdir()):
            try:
                descriptor = try_lock(path)
            except (FileNotFoundError, NotADirectoryError):  # committed meanwhile; not ours
                continue
            if descriptor is None:
                continue
            descriptors.callback(os.close, descriptor)
            if is_at(descriptor, path):
                yield path

    def _lock(self, digest: str, lock: Callable[[Path], _Held]) -> tuple[Path, _Held]:
        """Lock the artifact where it is now: between finding and locking it may go, or go and come again."""
        while True:
            path = self.locate(digest)
            with suppress(FileNotFoundError):
                held = lock(path)
                if held is None or is_at(held, path):
                    return path, held
                os.close(held)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            path = Path(error.filename) if isinstance(error.filename, str) else self.root
            raise StoreError.from_os(error, path) from error


def _remove(directory: Path, owner: int) -> None:
    try:
        shutil.rmtree(directory)
    finally:
        os.close(owner)


def _sync_tree(directory: Path) -> None:
    for place, _, files in os.walk(directory, topdown=False, onerror=_raise):
        for name in files:
            _sync(Path(place, name))
        _sync(Path(place))


def _raise(error: OSError) -> None:
    raise error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
