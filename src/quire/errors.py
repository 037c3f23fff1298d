"""Every way Quire says no.

    QuireError
    ├── SettingsError           quire.toml, QUIRE_* variables, command-line arguments
    │   ├── ProjectNotFound     no quire.toml here or above
    │   ├── ProjectExists       a file that `quire init` would write is there already
    │   ├── UnknownSetting      a key nobody reads
    │   ├── InvalidSetting      a known key with a wrong value
    │   └── PatternRefused      a regular expression that is none, or takes more than linear time
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
    │   ├── ModelChanged        its files were changed while it was in use
    │   ├── KernelsUnavailable  the kernels asked for cannot be compiled or do not run here
    │   └── DeviceUnavailable   the device asked for is not there, or PyTorch was built without it
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
    │   ├── ArtifactUnreadable  the disk fails
    │   ├── ArtifactTruncated   a file has another size than the manifest says
    │   ├── ChecksumMismatch    bytes differ from the manifest's digest
    │   ├── ManifestInvalid     the manifest breaks the format
    │   ├── ShardInvalid        a safetensors header breaks the format
    │   ├── ModuleChanged       its bytes changed while it was in use
    │   └── FormatUnsupported   written by a newer Quire
    ├── StoreError
    │   ├── ArtifactNotFound    no artifact of that digest
    │   ├── StoreFull           no space left, or over quota
    │   ├── StoreUnwritable     read-only, or permission denied
    │   ├── LocksUnavailable    the file system has no locks, as network file systems do
    │   ├── StoreUnreadable     permission denied, or its file system does not answer
    │   ├── StoreUnreachable    the object store does not answer
    │   └── StoreDenied         the object store refuses the credentials, or there are none
    ├── RegistryError
    │   ├── ModuleUnknown       no module of that name
    │   ├── VersionUnknown      no such version, or an ambiguous prefix
    │   ├── NoLiveVersion       the module has versions, none of them live
    │   ├── NothingToRollBack   no earlier version
    │   ├── NoCanary            no candidate runs beside the live version
    │   ├── CanaryRunning       another one does already
    │   ├── IllegalTransition   a state change the lifecycle does not allow
    │   ├── VersionInUse        live, pinned or a parent: not to be forgotten
    │   ├── ChainBroken         a parent is missing, or has other bytes than its child was compiled on
    │   ├── RecordInvalid       a record that contradicts itself or the catalogue
    │   ├── AuditBroken         a record of the audit log was changed, removed or put elsewhere
    │   ├── RegistryBusy        locked by another writer for too long
    │   ├── RegistryUnreachable its database server does not answer
    │   ├── NotConfirmed        a change is made, and a server has not said that it follows it
    │   ├── RegistryUnwritable  read-only, permission denied, or no space left
    │   └── RegistryUnreadable  damaged, or written by a newer Quire
    ├── StaleError              a module is not what its sources, or its clock, say
    │   ├── ModuleStale         it is to refuse while it is stale
    │   ├── ModuleExpired       its time is over
    │   └── ModulesOutdated     `quire status --check` found some
    ├── RouteError
    │   ├── NoRoute             nothing says which module answers
    │   ├── RouteTableInvalid   a route table that does not read as one
    │   └── GoldenRoutesMissed  questions of golden/routes.yaml go elsewhere than they should
    ├── GoldenError             a version may not go live by its golden tests
    │   ├── GoldenFailed        answers of it are not what its suite expects
    │   └── GoldenNotRun        it was not asked the suite that it declares
    ├── AccessError
    │   ├── Unauthenticated     no key or token, or one that does not hold
    │   ├── AccessDenied        the roles do not allow it
    │   ├── KeyUnknown          no API key of that id
    │   └── TokenKeysMissing    the issuer's keys cannot be had, so no token can be checked
    ├── LimitError
    │   ├── RateLimited         too many requests or tokens in a minute, or requests at once
    │   └── QuotaExhausted      the month's tokens are used up
    ├── EngineError
    │   ├── InvalidRequest      a request the engine cannot carry out as asked
    │   ├── RequestTooLarge     more bytes than the server takes
    │   ├── ContextExceeded     chain + suffix + answer do not fit the model's context
    │   ├── EngineBusy          no room for another request now
    │   ├── DeviceFull          a chain is larger than the room for modules on the device
    │   ├── RestoreFailed       a module's KV did not reach the device
    │   ├── EngineLoading       the model is not there yet
    │   ├── EngineStopped       shutting down
    │   ├── ModuleRevoked       what answers was revoked while it did
    │   └── RequestCancelled    the caller went away
    ├── ResourceError           the system gives this process no more of something; nothing is damaged
    │   ├── DescriptorsExhausted  no more open files
    │   └── MemoryExhausted     no more memory, or no more mapped files
    ├── BackupError             `quire export` and `quire import`
    │   ├── BackupInvalid       not an export, or one that was cut or changed
    │   └── TargetNotEmpty      something is where an export or an import should go
    ├── MachineError            this machine is not enough
    │   └── MachineLacks        `quire doctor` found that something needed is not there
    └── BenchError
        └── MeasurementFailed   a figure could not be taken, or another was taken than was meant

Every error says what was expected, what was found, and (`hint`) what to do next.
"""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path

_OS_ERROR = re.compile(r"\(os error (\d+)\)|\bOs \{\s*code: (\d+)")  # as Rust's libraries print it
_MEDIUM_FAILS = {
    getattr(errno, name)
    for name in ("EIO", "EBADMSG", "EUCLEAN", "EILSEQ", "ENODATA", "EREMOTEIO")
    if hasattr(errno, name)
}  # of Linux's file systems: EUCLEAN and EBADMSG for their own checksums, ENODATA for a bad sector


class QuireError(Exception):
    """Base of all errors that a user can act on.

    `str(error)` is one sentence: what was expected and what was found. `hint` is the next step. `outcome`: what became
    of the change that was asked for, in words, where one was and somebody knows.
    """

    exit_code = 1
    outcome = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def tell(self, outcome: str) -> None:
        """Say what became of the change in the message too; what was said first, nearer to the change, stays."""
        if not self.outcome:
            self.outcome, self.message = outcome, f"{self.message}; {outcome}"
            self.args = (self.message,)

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


class PatternRefused(SettingsError): ...


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


class ModelChanged(ModelError): ...


class KernelsUnavailable(ModelError): ...


class DeviceUnavailable(ModelError): ...


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
    """A copy of an artifact is not what its digest names: another copy may be. What only hinders reading is none."""

    exit_code = 6

    @staticmethod
    def from_os(cause: OSError, name: str, *, hint: str) -> QuireError:
        """The error of the operating system while it read `name` of an artifact, under our name for its reason.

        A copy is damaged where a file is missing or the medium fails. All else, as a lack of resources, a denial, or a
        file system that does not answer, says nothing of the bytes. `hint`: for a copy that is damaged.
        """
        reason = cause.strerror or str(cause)
        if lack := lack_of(cause, name):
            return lack
        if cause.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return ArtifactMissing(f"expected {name} in the artifact, found nothing", hint=hint)
        if cause.errno in _MEDIUM_FAILS:
            return ArtifactUnreadable(f"{name} cannot be read: {reason}", hint=f"check the disk; {hint}")
        return StoreUnreadable(
            f"{name} cannot be read: {reason}",
            hint="check the owner and the rights of that file, and that its file system answers",
        )


class ArtifactMissing(ArtifactError): ...


class ArtifactUnreadable(ArtifactError): ...


class ArtifactTruncated(ArtifactError): ...


class ChecksumMismatch(ArtifactError): ...


class ManifestInvalid(ArtifactError): ...


class ShardInvalid(ArtifactError): ...


class ModuleChanged(ArtifactError): ...


class FormatUnsupported(ArtifactError): ...


class StoreError(QuireError):
    exit_code = 7

    @staticmethod
    def from_os(cause: OSError, path: Path, *, needed: int | None = None) -> QuireError:
        """The error of the operating system while it wrote at `path`, under our name for its reason.

        `needed`: bytes that were asked for, where they are known. The caller raises the result: a StoreError or
        ResourceError.
        """
        reason = cause.strerror or str(cause)
        if lack := lack_of(cause, str(path)):
            return lack
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


class LocksUnavailable(StoreError): ...


class StoreUnreadable(StoreError): ...


class StoreUnreachable(StoreError): ...


class StoreDenied(StoreError): ...


class RegistryError(QuireError):
    exit_code = 8


class ModuleUnknown(RegistryError): ...


class VersionUnknown(RegistryError): ...


class NoLiveVersion(RegistryError): ...


class NothingToRollBack(RegistryError): ...


class NoCanary(RegistryError): ...


class CanaryRunning(RegistryError): ...


class IllegalTransition(RegistryError): ...


class VersionInUse(RegistryError): ...


class ChainBroken(RegistryError): ...


class RecordInvalid(RegistryError): ...


class AuditBroken(RegistryError): ...


class RegistryBusy(RegistryError): ...


class RegistryUnreachable(RegistryError): ...


class NotConfirmed(RegistryError):
    exit_code = 16


class RegistryUnwritable(RegistryError): ...


class RegistryUnreadable(RegistryError): ...


class StaleError(QuireError):
    exit_code = 15


class ModuleStale(StaleError): ...


class ModuleExpired(StaleError): ...


class ModulesOutdated(StaleError): ...


class RouteError(QuireError):
    exit_code = 9


class NoRoute(RouteError): ...


class RouteTableInvalid(RouteError): ...


class GoldenRoutesMissed(RouteError): ...


class GoldenError(QuireError):
    exit_code = 14


class GoldenFailed(GoldenError): ...


class GoldenNotRun(GoldenError): ...


class AccessError(QuireError):
    exit_code = 12


class Unauthenticated(AccessError): ...


class AccessDenied(AccessError): ...


class KeyUnknown(AccessError): ...


class TokenKeysMissing(AccessError): ...


class LimitError(QuireError):
    """`retry_seconds`: when it makes sense to try again. `limit`: the setting that says how much is allowed."""

    exit_code = 13

    def __init__(self, message: str, *, hint: str = "", retry_seconds: float = 1.0, limit: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_seconds = retry_seconds
        self.limit = limit


class RateLimited(LimitError): ...


class QuotaExhausted(LimitError): ...


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


class DeviceFull(EngineError): ...


class RestoreFailed(EngineError): ...


class EngineLoading(EngineError): ...


class EngineStopped(EngineError): ...


class ModuleRevoked(EngineError): ...


class RequestCancelled(EngineError): ...


class ResourceError(QuireError):
    """A lack that passes when something is given back. It says nothing of what could not be opened."""

    exit_code = 18


class DescriptorsExhausted(ResourceError): ...


class MemoryExhausted(ResourceError): ...


def lack_of(cause: BaseException, what: str) -> ResourceError | None:
    """The resource that the system had no more of when `what` was to be opened; None for any other failure.

    `cause`: an error of the operating system, or of a library that quotes its number.
    """
    quoted = _OS_ERROR.search(str(cause))
    number = (
        cause.errno
        if isinstance(cause, OSError) and cause.errno
        else int(quoted[quoted.lastindex or 0])
        if quoted
        else None
    )
    if number in (errno.EMFILE, errno.ENFILE):
        whose = "this process has" if number == errno.EMFILE else "the system has"
        return DescriptorsExhausted(
            f"{what} cannot be opened: {whose} as many open files as it may",
            hint="raise the hard limit on open files: ulimit -Hn, LimitNOFILE= of systemd, --ulimit of a container",
        )
    if number == errno.ENOMEM or isinstance(cause, MemoryError):
        return MemoryExhausted(
            f"{what} cannot be opened: the system gives this process no more memory, or no more mapped files",
            hint="check free memory, ulimit -v and the limit on mapped files (sysctl vm.max_map_count)",
        )
    return None


class BackupError(QuireError):
    exit_code = 17


class BackupInvalid(BackupError): ...


class TargetNotEmpty(BackupError): ...


class MachineError(QuireError):
    exit_code = 19


class MachineLacks(MachineError): ...


class BenchError(QuireError):
    exit_code = 11


class MeasurementFailed(BenchError): ...
