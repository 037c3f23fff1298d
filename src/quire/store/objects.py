"""Objects below a URL: S3, Google Cloud Storage, Azure, or a directory that many machines mount.

Every failure of the client gets our own name here, by what the operator can do about it, and what the client says of it
is told without query strings, which may be signatures. What may pass by itself is tried again with pauses, until
the service has not made any progress for `timeout` seconds.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from quire.descriptors import check_left
from quire.errors import InvalidSetting, StoreDenied, StoreError, StoreFull, StoreUnreachable, lack_of
from quire.settings import addresses
from quire.store.credentials import from_profile, region_of
from quire.store.denials import REFUSED, Denial, denial_of

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

PART = 16 << 20  # bytes that one request of an upload carries
PARTS_AT_ONCE = 4
LONGEST_REQUEST = timedelta(minutes=10)  # for PART bytes: whoever is slower than 28 kB/s counts as gone
# A service says nothing while a part arrives, and so this long parts may take: together, at half a megabyte a second.
SILENT_SECONDS = PARTS_AT_ONCE * PART / 0.5e6
TO_CONNECT = 8  # descriptors that the client's threads, a look for an address and a connection take at most
DIGEST = "digest"  # the attribute that says what was sent
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_GONE = "check the network and that the service runs; modules that lie on the local disk go on answering"
_Result = TypeVar("_Result")


class Objects:
    """The objects below one URL. Thread-safe. Names are relative to the URL."""

    def __init__(self, url: str, *, endpoint: str = "", timeout: float = 10.0) -> None:
        """Connects to nothing yet. `endpoint`: of an S3-compatible or Azure-compatible server.

        Raises:
            InvalidSetting: for a URL that names no store, and for credentials in one.
        """
        self.url = check_url(url)
        self._endpoint, self._timeout = endpoint, timeout
        self._keeps_attributes = not url.startswith("file:")
        self._store = _connect(self.url, endpoint, timeout, silent_seconds=timeout / 2)

    @cached_property
    def _uploads(self) -> ObjectStore:
        """For those who send something, which a server seldom does."""
        seconds = max(self._timeout / 2, SILENT_SECONDS)
        return _connect(self.url, self._endpoint, self._timeout, silent_seconds=seconds)

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of all objects below `prefix`, by name relative to it."""
        return {name: size for name, size, _ in self.listing(prefix)}

    def listing(self, prefix: str) -> list[tuple[str, int, datetime]]:
        """Name relative to `prefix`, bytes and time of the last change of all objects below it."""
        import obstore

        def ask() -> list[Any]:
            return list(obstore.list(self._store, prefix + "/").collect())

        at = len(prefix) + 1
        return [(meta["path"][at:], meta["size"], meta["last_modified"]) for meta in self._patiently(ask, prefix)]

    def read(self, name: str, start: int, end: int) -> bytes | None:
        """Bytes `start` to `end` of an object, or as many as there are; None where there is no such object."""
        import obstore

        def ask() -> bytes:
            got = obstore.get(self._store, name, options={"range": (start, end)})
            data = bytes(got.bytes())
            if len(data) != min(end, got.meta["size"]) - start:
                raise _Cut(f"{len(data):,} bytes came of {end - start:,}")
            return data

        try:
            return self._patiently(ask, name)
        except FileNotFoundError:
            return None

    def digest_of(self, name: str) -> str | None:
        """The digest that was given with an object when it was sent; None where there is none."""
        import obstore

        if not self._keeps_attributes:
            return None
        try:
            got = self._patiently(lambda: obstore.get(self._store, name, options={"head": True}), name)
        except FileNotFoundError:
            return None
        return dict(got.attributes).get(DIGEST)

    def put(self, name: str, data: bytes) -> None:
        """Mutates: a small object, visible at once and as a whole."""
        import obstore

        self._patiently(lambda: obstore.put(self._store, name, data, use_multipart=False), name)

    def put_parts(self, name: str, parts: Callable[[], Iterator[bytes]], digest: str) -> None:
        """Mutates: a large object in parts, several at once, each with its checksum; visible when all have arrived.

        `parts` is called again for another try. What it raises ends the upload, and nothing of it is left.
        """
        import obstore

        attributes: Any = {DIGEST: digest} if self._keeps_attributes else None

        def send() -> object:
            return obstore.put(
                self._uploads,
                name,
                parts(),
                attributes=attributes,
                chunk_size=PART,
                max_concurrency=PARTS_AT_ONCE,
                use_multipart=True,
            )

        self._patiently(send, name)

    def delete(self, names: Iterable[str]) -> None:
        """Mutates: remove objects, in this order; those that are not there are passed over."""
        import obstore

        for name in names:
            try:
                self._patiently(lambda name=name: obstore.delete(self._store, name), name)  # type: ignore[misc]
            except FileNotFoundError:
                continue

    def _patiently(self, ask: Callable[[], _Result], name: str) -> _Result:
        from obstore import exceptions as said

        deadline = time.monotonic() + self._timeout
        pause = _FIRST_PAUSE
        while True:
            try:
                return ask()
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise self._refusal(name, one_line(error)) from error
                raise
            except (said.PermissionDeniedError, said.UnauthenticatedError) as error:
                told = one_line(error)
                raise self._denied(denial_of(told) or REFUSED, name, told) from error
            except OSError as error:
                raise StoreError.from_os(error, Path(urlsplit(self.url).path)) from error
            except (said.BaseError, _Cut) as error:
                told = one_line(error)
                if lack := lack_of(error, f"{self.url}: {name}"):
                    raise lack from error
                late = time.monotonic() + pause > deadline
                denial = denial_of(told)
                if denial and (late or not denial.passing or _refused(told)):
                    raise self._denied(denial, name, told) from error
                if _refused(told):
                    raise self._refusal(name, told) from error
                if late:
                    check_left(TO_CONNECT)
                    raise self._unreachable(name, told) from error
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # so that gateways do not come back in step
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _denied(self, denial: Denial, name: str, told: str) -> StoreDenied:
        hint = denial.hint(urlsplit(self.url).scheme)
        return StoreDenied(f"{self.url}: {denial.problem} ({name}): {told}", hint=hint)

    def _refusal(self, name: str, told: str) -> StoreError:
        if "NoSuchBucket" in told:
            return StoreError(f"{self.url}: the bucket is not there", hint="create it, or correct store.url")
        if "507" in told or "No space left" in told:
            return StoreFull(f"{self.url}: no room for {name}: {told}", hint="free some space there")
        return StoreError(
            f"{self.url}: the store refuses {name}: {told}",
            hint=f"check store.url, store.endpoint and the region; {REFUSED.hint(urlsplit(self.url).scheme)}",
        )

    def _unreachable(self, name: str, told: str) -> StoreUnreachable:
        return StoreUnreachable(f"{self.url} cannot be reached for {name}: {told}", hint=_GONE)


class _Cut(Exception):
    """Less came than was promised."""


def check_url(url: str) -> str:
    """`url` without a slash at its end. `InvalidSetting` for one that names no object store."""
    if expected := addresses.object_store(url) or (not url and "a URL"):
        raise InvalidSetting(
            f"expected {expected}, found {addresses.shown(url, secret=False)}",
            hint="for example s3://bucket/quire, gs://bucket/quire, az://container/quire or file:///mnt/shared/quire",
        )
    return url.rstrip("/")


def one_line(error: Exception) -> str:
    """What the client says, without its structures, its query strings and its white space.

    Of an answer in XML its code and message stay: others of its elements repeat keys and tokens.
    """
    first = str(error).partition("Debug source:")[0]
    told = re.sub(r"<(?!/|(?:Error|Code|Message)>)[^<>]*>[^<]*", " ", first)
    without = re.sub(r"\?[^\s\"')]*", "", told)
    return " ".join(re.sub(r"<[^<>]*>", " ", without).split())[:500]


def _refused(told: str) -> bool:
    """Whether trying again is of no use: the service has answered, and it is not that it was busy."""
    status = re.search(r"status code: (\d{3})", told) or re.search(r"status (\d{3})", told)
    return bool(status) and status[1][0] in "34" and status[1] not in ("408", "425", "429")  # type: ignore[index]


def _start_client() -> None:
    """Have the client's threads started now: without descriptors they would fail at the first request, and for good.

    Raises DescriptorsExhausted.
    """
    import obstore
    from obstore.store import MemoryStore

    check_left(TO_CONNECT)
    obstore.put(MemoryStore(), "started", b"")


def _connect(url: str, endpoint: str, timeout: float, *, silent_seconds: float) -> ObjectStore:
    from obstore import exceptions as said
    from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

    _start_client()
    # One silent connection is given up early enough for a second one to get its chance.
    client: ClientConfig = {
        "timeout": LONGEST_REQUEST,
        "connect_timeout": timedelta(seconds=min(5.0, timeout / 2)),
        "read_timeout": timedelta(seconds=silent_seconds),
        "allow_http": endpoint.startswith("http://"),
    }
    retry: RetryConfig = {
        "max_retries": 4,
        "retry_timeout": timedelta(seconds=max(timeout, silent_seconds)),  # since a request's first try began
        "backoff": {"init_backoff": timedelta(seconds=_FIRST_PAUSE), "max_backoff": timedelta(seconds=_LONGEST_PAUSE)},
    }
    try:
        match urlsplit(url).scheme:
            case "s3":
                config: dict[str, Any] = {"checksum_algorithm": "sha256"}
                if endpoint:
                    config["endpoint"] = endpoint
                if not (os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
                    config["region"] = region_of(os.environ) or "us-east-1"
                if not endpoint and os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
                    client["allow_http"] = True
                return S3Store.from_url(
                    url,
                    config=config,  # type: ignore[arg-type]  # a TypedDict of all its keys
                    client_options=client,
                    retry_config=retry,
                    credential_provider=from_profile(os.environ),
                )
            case "gs":
                if endpoint:
                    raise InvalidSetting("store.endpoint is of no use with gs://", hint="leave it empty")
                return GCSStore.from_url(url, client_options=client, retry_config=retry)
            case "az":
                azure: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
                return AzureStore.from_url(url, config=azure, client_options=client, retry_config=retry)  # type: ignore[arg-type]
            case _:
                return LocalStore(Path(unquote(urlsplit(url).path)), mkdir=True)
    except (said.BaseError, ValueError, OSError) as error:
        if lack := lack_of(error, url):
            raise lack from error
        told = one_line(error)
        hint = (denial_of(told) or REFUSED).hint(urlsplit(url).scheme)
        raise InvalidSetting(f"the store {url} cannot be opened: {told}", hint=hint) from error
