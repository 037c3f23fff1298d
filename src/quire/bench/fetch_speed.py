"""A module that is not on this machine's disk: from the object store, beside the disk and beside prefill.

Fetching moves every byte of the KV over the network, hashes it once as it arrives and once as it is mapped, writes it
and waits until the disk has it: at best bytes / the slowest of network, disk and hash. It replaces the prefill of the
same tokens, which is bound by arithmetic, so that there is a network below which computing is faster; the ratio says on
which side this one is. The store is that of QUIRE_STORE_URL, else a directory beside the work: no network at all.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

from quire.artifact import open_artifact
from quire.bench.compile_speed import prefill_seconds
from quire.bench.figures import Figure, alternate, milliseconds, rate, ratio
from quire.bench.pages import drop_pages
from quire.settings import load_settings
from quire.store import DiskStore
from quire.store.objects import Objects
from quire.store.remote import Remote
from quire.store.tiers import TieredStore

if TYPE_CHECKING:
    from pathlib import Path

    from quire.bench.workbench import Workbench


def measure_fetch(bench: Workbench) -> list[Figure]:
    """The rate of sending; restoring from the store, from the disk, by prefill, by turns. Leaves nothing there."""
    given = load_settings(None, os.environ, root=bench.work)
    url = given["store.url"] or f"file://{bench.work}/objects"
    remote = Remote(Objects(url, endpoint=given["store.endpoint"], timeout=given["store.timeout_seconds"]))
    digest, place = bench.record.digest, bench.work / "fetched"
    sender = TieredStore(DiskStore(bench.project.settings.state), remote)
    store = TieredStore(DiskStore(place), remote)
    was_there = remote.has(digest)
    try:
        began = time.perf_counter()
        sent = sender.share(digest)
        sending = time.perf_counter() - began
        seconds = alternate(
            {
                "fetch": lambda: _fetch(store, digest),
                "disk": lambda: _from_disk(bench.artifact, digest),
                "prefill": lambda: prefill_seconds(bench),
            },
            bench.options.repeat,
            bench.say,
        )
    finally:
        if not was_there:
            remote.delete(digest)
        shutil.rmtree(place, ignore_errors=True)
    size = bench.kv_bytes
    fetched = milliseconds(
        "restore from the object store, checked twice", seconds["fetch"], note=url.partition("://")[0] + "://"
    )
    disk = milliseconds("restore from the disk, pages dropped, checked", seconds["disk"])
    computed = milliseconds("prefill", seconds["prefill"])
    return [
        *([Figure(name="send to the object store", value=sent / 1e6 / sending, unit="MB/s")] if sent else []),
        fetched,
        rate("the same", size / 1e6, seconds["fetch"], "MB/s"),
        disk,
        computed,
        ratio("prefill / restore from the object store", computed, fetched),
        ratio("restore from the object store / from the disk", fetched, disk),
    ]


def _fetch(store: TieredStore, digest: str) -> float:
    if store.digests():
        store.drop_copy(digest)
    began = time.perf_counter()
    with store.lease(digest) as lease, open_artifact(lease.directory, expect_digest=digest) as artifact:
        artifact.verify()
        return time.perf_counter() - began


def _from_disk(directory: Path, digest: str) -> float:
    drop_pages(directory)
    began = time.perf_counter()
    with open_artifact(directory, expect_digest=digest) as artifact:
        artifact.verify()
        return time.perf_counter() - began
