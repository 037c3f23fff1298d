"""Manifests that somebody wrote to do harm, or by accident."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.artifact import Manifest, canonical
from quire.errors import ArtifactError, FormatUnsupported, ManifestInvalid

GOLDEN = (Path(__file__).parent / "golden" / "manifest.json").read_bytes()


def golden() -> Any:
    return json.loads(GOLDEN)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to every value in a document, objects and lists included."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(leaf for key, item in inner for leaf in leaves(item, (*path, key)))]


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


# What the format leaves open: any JSON object, any number of sources.
FREE = {("rope",), ("rope", "rope_theta"), ("rope", "rope_type"), ("sources",)}
WRONG = [True, -1, 1.5, "", "\x00", "x" * 5000, [], {}, [{}], {"a": 1}, 2**53 - 1]


def test_every_field_refuses_the_wrong_type() -> None:
    paths = [path for path in leaves(golden()) if path and path not in FREE]
    assert len(paths) > 60
    for path in paths:
        old = golden()
        for key in path:
            old = old[key]
        for wrong in WRONG:
            if type(wrong) is type(old) and wrong in ("", {}, 2**53 - 1):
                continue  # may be right, or is met by a rule of its own below
            if path[-1] == "largest_logit_difference" and wrong in (1.5, 2**53 - 1):
                continue
            document = golden()
            put(document, path, wrong)
            with pytest.raises(ArtifactError):
                Manifest.from_bytes(canonical(document))


def test_every_field_is_required_and_no_other_is_known() -> None:
    for path in leaves(golden()):
        document = golden()
        place = document
        for key in path:
            place = place[key]
        if not isinstance(place, dict) or path in {("rope",), ("numerics", "libraries")}:
            continue
        for name in list(place):
            kept = place.pop(name)
            with pytest.raises(ManifestInvalid, match=rf"{name}: expected a value"):
                Manifest.from_bytes(canonical(document))
            place[name] = kept
        place["extra"] = 1
        with pytest.raises(ManifestInvalid, match=r"only the fields.*extra"):
            Manifest.from_bytes(canonical(document))


HOSTILE: dict[str, tuple[tuple[Any, ...], Any]] = {
    "path up": (("files", 1, "name"), "../kv-00000.safetensors"),
    "absolute path": (("files", 1, "name"), "/etc/passwd"),
    "name with a line end": (("files", 1, "name"), "kv-00000.safetensors\n"),
    "name with other digits": (("files", 1, "name"), "kv-٠٠٠٠٠.safetensors"),
    "name with NUL": (("files", 1, "name"), "kv-00000.safetensors\0"),
    "a file twice": (("files", 2, "name"), "kv-00000.safetensors"),
    "files in another order": (("files", 0, "name"), "kv-00001.safetensors"),
    "a shard too many": (("layers_per_shard",), 1),
    "more layers in a shard than layers": (("layers_per_shard",), 4),
    "huge file": (("files", 1, "bytes"), 2**53 - 1),
    "no tokens": (("token_count",), 0),
    "a token more": (("token_count",), 6),
    "2**24 tokens": (("token_count",), 2**24),
    "position without parent": (("position_start",), 1),
    "position past the end": (("position_start",), 2**31 - 2),
    "no layers": (("layers",), []),
    "version of another key": (("version",), "0" * 12),
    "key without tag": (("key",), "d" * 64),
    "key in capitals": (("key",), "b3:" + "D" * 64),
    "route elsewhere": (("route",), "other"),
    "module id with dots": (("module_id",), "acme/../other"),
    "module id with a direction mark": (("module_id",), "acme\u202eprices"),
    "title with an escape sequence": (("title",), "\x1b[2J"),
    "public with owner": (("acl_scope",), "public"),
    "workspace of nobody": (("acl_scope",), "workspace"),
    "owner with a slash": (("acl_owner",), "acme/x"),
    "unknown scope": (("acl_scope",), "everyone"),
    "unknown dtype": (("dtype",), "int8"),
    "rope too deep": (("rope", "x"), [[[[[[[[1]]]]]]]]),
    "negative difference": (("verification", "largest_logit_difference"), -0.1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_values(name: str) -> None:
    document = golden()
    put(document, *HOSTILE[name])
    with pytest.raises(ManifestInvalid) as refusal:
        Manifest.from_bytes(canonical(document))
    assert len(refusal.value.message) < 500


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("layers", 0, "kind"), "sliding_window"),
        (("layers", 2, "kind"), "recurrent"),
        (("layers", 2, "head_dim"), 8),
        (("codec",), "int8"),
        (("format_version",), 7),
    ],
)
def test_what_a_newer_quire_may_know(path: tuple[Any, ...], value: Any) -> None:
    document = golden()
    put(document, path, value)
    with pytest.raises(FormatUnsupported):
        Manifest.from_bytes(canonical(document))


REWRITTEN: dict[str, Callable[[bytes], bytes]] = {
    "a space": lambda data: data.replace(b":", b": ", 1),
    "a line end": lambda data: data + b"\n",
    "another order": lambda data: json.dumps(dict(reversed(golden().items())), separators=(",", ":")).encode(),
    "escapes": lambda data: json.dumps(golden(), separators=(",", ":"), sort_keys=True).encode(),
    "a long number": lambda data: data.replace(b'"threads":2', b'"threads":2.0'),
    "minus zero": lambda data: data.replace(b'"position_start":0', b'"position_start":-0'),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "not UTF-8": lambda data: data.replace("✓".encode(), b"\xff"),
    "an overlong slash": lambda data: data.replace(b"acme/prices", b"acme\xc0\xafprices"),
    "half a surrogate pair": lambda data: data.replace("✓".encode(), b"\\ud800"),
    "a surrogate as a name": lambda data: data.replace(b'"rope_type"', b'"\\udfff"'),
    "a duplicate name": lambda data: data.replace(b'"codec":"plain"', b'"codec":"plain","codec":"plain"'),
    "NaN": lambda data: data.replace(b"10000", b"NaN"),
    "Infinity": lambda data: data.replace(b"10000", b"-Infinity"),
    "1e999": lambda data: data.replace(b"10000", b"1e999"),
    "a number of a million digits": lambda data: data.replace(b"10000", b"9" * 1_000_000),
    "2**53": lambda data: data.replace(b'"threads":2', b'"threads":9007199254740992'),
    "deep lists": lambda data: b"[" * 500_000,
    "deep lists, closed": lambda data: data.replace(b"10000", b"[" * 50_000 + b"]" * 50_000),
    "moderately deep lists": lambda data: data.replace(b"10000", b"[" * 300 + b"]" * 300),
    "deep objects": lambda data: b'{"a":' * 100_000,
    "many equal names": lambda data: b"{" + b",".join([b'"a":1'] * 100_000) + b"}",
    "a list": lambda data: b"[]",
    "null": lambda data: b"null",
    "nothing": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "too long": lambda data: data + b" " * (1 << 20),
}


@pytest.mark.parametrize("name", REWRITTEN)
def test_only_canonical_bytes_are_read(name: str) -> None:
    written = REWRITTEN[name](GOLDEN)
    assert written != GOLDEN
    with pytest.raises(ManifestInvalid) as refusal:
        Manifest.from_bytes(written)
    assert len(refusal.value.message) < 500


@pytest.mark.parametrize(
    ("scope", "owner"), [("public", ""), ("tenant", "a"), ("workspace", "a/b"), ("user", "a/u@example.com")]
)
def test_scopes_with_their_owners(scope: str, owner: str) -> None:
    document = golden() | {"acl_scope": scope, "acl_owner": owner}
    assert str(Manifest.from_bytes(canonical(document)).scope) == (f"{scope}:{owner}" if owner else scope)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes(data: bytes) -> None:
    with pytest.raises(ArtifactError):
        Manifest.from_bytes(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(leaves(golden())[1:]), JSON)
def test_any_value_anywhere(path: tuple[Any, ...], value: object) -> None:
    """A document is refused by name, or read and written back to the same bytes."""
    document = golden()
    put(document, path, value)
    try:
        data = canonical(document)
        manifest = Manifest.from_bytes(data)
    except ArtifactError:
        return
    assert manifest.to_bytes() == data


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_edited_bytes(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOLDEN) - 1))
    cut = data.draw(st.integers(0, 20))
    written = GOLDEN[:at] + data.draw(st.binary(max_size=8)) + GOLDEN[at + cut :]
    try:
        assert Manifest.from_bytes(written).to_bytes() == written
    except ArtifactError:
        return
