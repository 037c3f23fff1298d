"""Every way Quire says no.

    QuireError
    ├── SettingsError           quire.toml, QUIRE_* variables, command-line arguments
    │   ├── ProjectNotFound     no quire.toml here or above
    │   ├── ProjectExists       a file that `quire init` would write is there already
    │   ├── UnknownSetting      a key nobody reads
    │   └── InvalidSetting      a known key with a wrong value
    ├── SourceError             a file of knowledge cannot be read as text
    │   ├── SourceNotFound      no such file, or a pattern that matches nothing
    │   ├── SourceUnreadable    permission denied, a device, a dangling link
    │   ├── SourceEmpty         nothing but white space
    │   ├── SourceNotText       binary, or not UTF-8
    │   ├── SourceTooLarge      above the size limit
    │   └── SourceMalformed     a PDF, JSON or front matter that does not parse
    ├── LayoutError
    │   ├── LayoutMalformed     not a layout file
    │   └── UnknownVariable     a template names something a layout does not know
    ├── ModelError
    │   ├── ModelNotFound       nothing at that path or name
    │   ├── ModelUnreadable     found, but it does not load
    │   ├── ModelFetchFailed    the default model could not be downloaded or did not match its hash
    │   ├── ModelUnsupported    attention that the engine does not do exactly
    │   ├── ModelMismatch       a module compiled for another model or tokenizer
    │   └── KernelsUnavailable  the kernels asked for cannot be compiled or do not run here
    ├── CompileError
    │   ├── ParentUnknown       a module names a parent that is not declared
    │   ├── ParentCycle         a module is its own ancestor
    │   ├── ScopeTooWide        a child visible to more principals than its parent
    │   ├── DocumentTooLong     more tokens than the model's context holds
    │   ├── BuildBusy           another build of this project is running
    │   ├── BuildInterrupted    stopped by the user; what was finished is kept
    │   └── VerificationFailed  restored KV does not reproduce the prefill
    ├── ArtifactError
    │   ├── ArtifactMissing     a file of the artifact is not there
    │   ├── ArtifactUnreadable  permission denied, or the disk fails
    │   ├── ArtifactTruncated   a file has another size than the manifest says
    │   ├── ChecksumMismatch    bytes differ from the manifest's digest
    │   ├── ManifestInvalid     the manifest breaks the format
    │   ├── ShardInvalid        a safetensors header breaks the format
    │   └── FormatUnsupported   written by a newer Quire
    ├── StoreError
    │   ├── ArtifactNotFound    no artifact of that digest
    │   ├── StoreFull           no space left, or over quota
    │   └── StoreUnwritable     read-only, or permission denied
    ├── RegistryError
    │   ├── ModuleUnknown       no module of that name
    │   ├── VersionUnknown      no such version, or an ambiguous prefix
    │   ├── NoLiveVersion       the module has versions, none of them live
    │   ├── NothingToRollBack   no earlier version
    │   ├── IllegalTransition   a state change the lifecycle does not allow
    │   ├── VersionInUse        live, pinned or a parent: not to be forgotten
    │   ├── ChainBroken         a parent is missing, or has other bytes than its child was compiled on
    │   ├── RecordInvalid       a record that contradicts itself or the catalogue
    │   ├── RegistryBusy        locked by another writer for too long
    │   ├── RegistryUnwritable  read-only, permission denied, or no space left
    │   └── RegistryUnreadable  damaged, or written by a newer Quire
    ├── RouteError
    │   └── NoRoute             nothing says which module answers
    ├── EngineError
    │   ├── InvalidRequest      a request the engine cannot carry out as asked
    │   ├── RequestTooLarge     more bytes than the server takes
    │   ├── ContextExceeded     chain + suffix + answer do not fit the model's context
    │   ├── EngineBusy          no room for another request now
    │   ├── EngineStopped       shutting down
    │   └── RequestCancelled    the caller went away
    └── BenchError
        └── MeasurementFailed   a figure could not be taken, or another was taken than was meant

Every error says what was expected, what was found, and (`hint`) what to do next.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path


class QuireError(Exception):
    """Base of all errors that a user can act on.

    `str(error)` is one sentence: what was expected and what was found. `hint` is the next step.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def code(self) -> str:
        """The stable name in logs, JSON and HTTP bodies, e.g. ``checksum_mismatch``."""
        name = type(self).__name__
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class SettingsError(QuireError):
    exit_code = 2


class ProjectNotFound(SettingsError): ...


class ProjectExists(SettingsError): ...


class UnknownSetting(SettingsError): ...


class InvalidSetting(SettingsError): ...


class SourceError(QuireError):
    exit_code = 3


class SourceNotFound(SourceError): ...


class SourceUnreadable(SourceError): ...


class SourceEmpty(SourceError): ...


class SourceNotText(SourceError): ...


class SourceTooLarge(SourceError): ...


class SourceMalformed(SourceError): ...


class LayoutError(QuireError):
    exit_code = 3


class LayoutMalformed(LayoutError): ...


class UnknownVariable(LayoutError): ...


class ModelError(QuireError):
    exit_code = 4


class ModelNotFound(ModelError): ...


class ModelUnreadable(ModelError): ...


class ModelFetchFailed(ModelError): ...


class ModelUnsupported(ModelError): ...


class ModelMismatch(ModelError): ...


class KernelsUnavailable(ModelError): ...


class CompileError(QuireError):
    exit_code = 5


class ParentUnknown(CompileError): ...


class ParentCycle(CompileError): ...


class ScopeTooWide(CompileError): ...


class DocumentTooLong(CompileError): ...


class BuildBusy(CompileError): ...


class BuildInterrupted(CompileError):
    exit_code = 130


class VerificationFailed(CompileError): ...


class ArtifactError(QuireError):
    exit_code = 6


class ArtifactMissing(ArtifactError): ...


class ArtifactUnreadable(ArtifactError): ...


class ArtifactTruncated(ArtifactError): ...


class ChecksumMismatch(ArtifactError): ...


class ManifestInvalid(ArtifactError): ...


class ShardInvalid(ArtifactError): ...


class FormatUnsupported(ArtifactError): ...


class StoreError(QuireError):
    exit_code = 7

    @staticmethod
    def from_os(cause: OSError, path: Path, *, needed: int | None = None) -> StoreError:
        """The error of the operating system while it wrote at `path`, under our name for its reason.

        `needed`: bytes that were asked for, where they are known. The caller raises the result.
        """
        reason = cause.strerror or str(cause)
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            wanted = "" if needed is None else f"{needed:,} bytes needed, "
            return StoreFull(
                f"no room at {path}: {wanted}{_free_bytes(path)} ({reason})",
                hint="free some space, or put the store on another disk",
            )
        if cause.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return StoreUnwritable(
                f"{path} cannot be written: {reason}",
                hint="check the owner and the mount of that directory, or choose another store",
            )
        return StoreError(f"{path} does not do for a store: {reason}", hint="check the disk and the path")


def _free_bytes(path: Path) -> str:
    for place in (path, *path.parents):
        try:
            return f"{shutil.disk_usage(place).free:,} bytes free"
        except OSError:
            continue
    return "free space unknown"


class ArtifactNotFound(StoreError): ...


class StoreFull(StoreError): ...


class StoreUnwritable(StoreError): ...


class RegistryError(QuireError):
    exit_code = 8


class ModuleUnknown(RegistryError): ...


class VersionUnknown(RegistryError): ...


class NoLiveVersion(RegistryError): ...


class NothingToRollBack(RegistryError): ...


class IllegalTransition(RegistryError): ...


class VersionInUse(RegistryError): ...


class ChainBroken(RegistryError): ...


class RecordInvalid(RegistryError): ...


class RegistryBusy(RegistryError): ...


class RegistryUnwritable(RegistryError): ...


class RegistryUnreadable(RegistryError): ...


class RouteError(QuireError):
    exit_code = 9


class NoRoute(RouteError): ...


class EngineError(QuireError):
    exit_code = 10


class InvalidRequest(EngineError):
    """`param`: the field of the request that is to blame, where it is one."""

    def __init__(self, message: str, *, hint: str = "", param: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.param = param


class RequestTooLarge(EngineError): ...


class ContextExceeded(EngineError): ...


class EngineBusy(EngineError): ...


class EngineStopped(EngineError): ...


class RequestCancelled(EngineError): ...


class BenchError(QuireError):
    exit_code = 11


class MeasurementFailed(BenchError): ...
