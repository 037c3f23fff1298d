"""What every store does. An artifact is a directory tree named by its digest, and it never changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from quire.store.remote import Remote


class Lease(ABC):
    """A promise that an artifact stays where it is. Ends with `release`, the `with` block, or the process."""

    directory: Path

    @abstractmethod
    def release(self) -> None:
        """Let the artifact be deleted again. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Store(ABC):
    """Where artifacts rest. Any number of processes may use one store at the same time.

    Digests are ``<algorithm>:<64 hex digits>``. Besides the errors named, methods that mutate raise
    `StoreFull` and `StoreUnwritable`, and all of them `StoreError` for what else the device refuses. Those that may ask
    an object store also raise `StoreUnreachable` and `StoreDenied`.
    """

    remote: Remote | None = None  # the object store behind the local disk, where there is one

    @abstractmethod
    def stage(self) -> Path:
        """Mutates: a fresh empty directory for the caller to write an artifact into.

        It is no artifact until `commit`. If this process dies, `sweep` of any process removes it.
        """

    @abstractmethod
    def commit(self, staged: Path, digest: str) -> Path:
        """Mutates: make a staged directory the artifact `digest`, durably and at once; give its place.

        Where that artifact is already there, it stays and the staged one is dropped. `StoreError` for a
        directory that `stage` of this object did not give, and for text that is no digest.
        """

    @abstractmethod
    def discard(self, staged: Path) -> None:
        """Mutates: remove a staged directory. `StoreError` for one that this object did not stage."""

    @abstractmethod
    def locate(self, digest: str) -> Path:
        """The artifact's directory on this machine. `ArtifactNotFound`. Nothing keeps it there: see `lease`."""

    @abstractmethod
    def has(self, digest: str) -> bool:
        """Whether `lease` would find the artifact, here or in the object store."""

    @abstractmethod
    def check(self) -> None:
        """Whether artifacts can be read now. Cheap. `StoreError` says why not."""

    @abstractmethod
    def digests(self) -> list[str]:
        """All artifacts on this machine, sorted."""

    @abstractmethod
    def strays(self) -> list[Path]:
        """What lies among the artifacts and is none, sorted. Nothing of Quire's puts it there."""

    @abstractmethod
    def remove_stray(self, path: Path) -> None:
        """Mutates: remove one of `strays`. `StoreError` for a path that is not among them."""

    @abstractmethod
    def size(self, digest: str) -> int:
        """Bytes of the artifact's files. `ArtifactNotFound`."""

    @abstractmethod
    def delete(self, digest: str) -> bool:
        """Mutates: remove an artifact from everywhere, invisible at once. False, and nothing done, while it is leased.

        Leases are those of this machine. `ArtifactNotFound`.
        """

    @abstractmethod
    def begin_removal(self, digest: str) -> None:
        """Mutates: note, durably, that the artifact is to go from everywhere as soon as no version refers to it.

        Between a change in the registry and one here a process may die: the note says what was meant.
        """

    @abstractmethod
    def finish_removal(self, digest: str) -> bool:
        """Mutates: remove what is left of an artifact, everywhere, and the note. False, and nothing done: it is leased.

        The caller has made sure that no version refers to it.
        """

    @abstractmethod
    def cancel_removal(self, digest: str) -> None:
        """Mutates: forget what `begin_removal` noted; the artifact stays."""

    @abstractmethod
    def removals(self) -> list[str]:
        """Artifacts whose removal was begun on this machine and neither finished nor cancelled, sorted."""

    @abstractmethod
    def drop_copy(self, digest: str) -> bool:
        """Mutates: remove the copy on this machine, so that `lease` fetches another. As `delete` if there is none."""

    @abstractmethod
    def set_aside(self, damaged: Lease) -> bool:
        """Mutates: put the copy on this machine that `damaged` keeps out of the way, if another one can be had.

        True: `lease` gives another one, that of the object store or whatever has taken its place meanwhile. False, and
        nothing done, where there is no other. Whoever else leases the damaged copy keeps it.
        """

    @abstractmethod
    def share(self, digest: str, tell: Callable[[int], None] = lambda _: None) -> int:
        """Mutates: put an artifact where every gateway can have it; the bytes that had to be sent.

        What goes live is shared before. `tell`: called with bytes as they go; what it raises ends the sending.
        `ArtifactNotFound`, and `ArtifactError` for a copy that is damaged.
        """

    @abstractmethod
    def in_use(self, digest: str) -> bool:
        """Whether anybody leases the artifact at this moment. `ArtifactNotFound`."""

    @abstractmethod
    def lease(self, digest: str, tell: Callable[[int], None] = lambda _: None) -> Lease:
        """Keep an artifact on this machine, by whichever process; fetch it first if it is not here. `ArtifactNotFound`.

        `tell`: called with bytes as they arrive.
        """

    @abstractmethod
    def sweep(self) -> list[Path]:
        """Mutates: remove what dead processes left half-written or half-deleted; give what was removed."""
