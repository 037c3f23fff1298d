"""docs/format.md says what the code does."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from quire.artifact import Manifest
from quire.artifact.manifest import MANIFEST_LIMIT, MAX_SOURCES
from quire.artifact.shards import (
    DEFAULT_SHARD_BYTES,
    MAX_HEAD_DIM,
    MAX_KV_HEADS,
    MAX_LAYERS,
    MAX_TOKENS,
    plan_shards,
)
from quire.core import KVGeometry

from .samples import GEOMETRY

TEXT = (Path(__file__).parents[2] / "docs" / "format.md").read_text()


def test_every_field_stands_in_the_table_in_order() -> None:
    section = TEXT.split("## The manifest")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [field.name for field in fields(Manifest)]


def test_the_limits_are_those_of_the_code() -> None:
    for limit in (MANIFEST_LIMIT, MAX_SOURCES, MAX_LAYERS, MAX_KV_HEADS, MAX_HEAD_DIM, MAX_TOKENS):
        assert f"{limit:,}" in TEXT
    assert DEFAULT_SHARD_BYTES == 1 << 30


def test_the_example_is_a_real_shard() -> None:
    shard = plan_shards(GEOMETRY, 5, 2)[1]
    rows = [(0, 8), (8, len(shard.header)), *((s.offset, s.offset + s.size) for s in shard.spans)]
    assert re.findall(r"^\| (\d+) \| (\d+) \|", TEXT, re.MULTILINE) == [(str(a), str(b)) for a, b in rows]
    assert rows[-1][1] == shard.size


def test_no_header_is_longer_than_a_mebibyte() -> None:
    largest = KVGeometry(MAX_LAYERS, 1, 4095, "float32")
    assert max(len(plan.header) for plan in plan_shards(largest, MAX_TOKENS - 1, MAX_LAYERS)) < 1 << 20
