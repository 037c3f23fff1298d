"""A disk that fills while modules arrive from the object store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from store.conftest import commit, content, nothing_left

from quire.errors import StoreFull
from quire.store.disk import DiskStore
from quire.store.objects import Objects
from quire.store.remote import Remote
from quire.store.tiers import TieredStore

from .conftest import SmallDisk


def test_a_full_local_disk_is_known_before_anything_is_fetched(small_disk: SmallDisk, tmp_path: Path) -> None:
    remote = Remote(Objects(f"file://{tmp_path}/objects"))
    here = TieredStore(DiskStore(tmp_path / "here"), remote)
    first, second = commit(here), commit(here, 1)
    here.share(first)
    here.share(second)
    disk = small_disk(30 << 20)
    there = TieredStore(DiskStore(disk / "state"), remote)
    there.lease(first).release()
    with pytest.raises(StoreFull, match=r"20,[0-9,]+ bytes needed, [0-9,]+ bytes free") as full:
        there.lease(second)
    assert full.value.hint
    assert there.digests() == [first]
    assert os.listdir(disk / "state" / "tmp") == []
    there.drop_copy(first)
    assert nothing_left(disk / "state")
    with there.lease(second) as lease:
        assert content(lease.directory) == content(here.locate(second))
