"""The manifest: what a module is, and the digest of every byte of it. Its own digest names the artifact.

The fields are specified in docs/format.md; the attribute names are the JSON names.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Self, get_args

from quire.artifact.fields import read_canonical, refuse
from quire.artifact.identity import canonical, digest_bytes, version_of
from quire.artifact.parts import (
    MODULE_ID,
    VERSION,
    FileEntry,
    LayerShape,
    LayoutIdentity,
    ModelIdentity,
    Numerics,
    ParentIdentity,
    SourceEntry,
    Verification,
)
from quire.artifact.shards import (
    MAX_LAYERS,
    MAX_POSITION,
    MAX_TOKENS,
    SAFETENSORS_NAMES,
    FilePlan,
    check_geometry,
    plan_shards,
    plan_tokens,
)
from quire.core import KVGeometry, Scope, ScopeKind
from quire.errors import FormatUnsupported

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
MANIFEST_LIMIT = 1 << 20  # bytes
MAX_SOURCES = 10_000


@dataclass(frozen=True, slots=True)
class Manifest:
    format_version: int
    key: str
    module_id: str
    version: str
    title: str
    tenant_id: str
    route: str
    acl_scope: ScopeKind
    acl_owner: str
    model: ModelIdentity
    tokenizer_fingerprint: str
    layout: LayoutIdentity
    parent: ParentIdentity | None
    token_count: int
    position_start: int
    layers: tuple[LayerShape, ...]
    layers_per_shard: int
    dtype: str
    codec: str
    rope: dict[str, object]
    numerics: Numerics
    files: tuple[FileEntry, ...]
    context_checksum: str
    sources: tuple[SourceEntry, ...]
    verification: Verification | None

    def to_bytes(self) -> bytes:
        """Canonical JSON. It does not check; `from_bytes` does, and every writer reads back what it wrote."""
        return canonical(asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """A manifest from bytes that anybody may have written.

        `FormatUnsupported` for what a newer Quire may know, `ManifestInvalid` for all else; nothing else.
        """
        fields = read_canonical(data, limit=MANIFEST_LIMIT, version=FORMAT_VERSION)
        manifest = cls(
            format_version=fields.integer("format_version", 1, FORMAT_VERSION),
            key=fields.digest("key"),
            module_id=fields.matching("module_id", MODULE_ID, "a module id"),
            version=fields.matching("version", VERSION, "12 hex digits"),
            title=fields.text("title", limit=512, empty=True),
            tenant_id=fields.text("tenant_id"),
            route=fields.matching("route", MODULE_ID, "a module id"),
            acl_scope=fields.one_of("acl_scope", get_args(ScopeKind)),
            acl_owner=fields.text("acl_owner", limit=512, empty=True),
            model=fields.inner("model", ModelIdentity.read),
            tokenizer_fingerprint=fields.tagged("tokenizer_fingerprint"),
            layout=fields.inner("layout", LayoutIdentity.read),
            parent=fields.inner_or_none("parent", ParentIdentity.read),
            token_count=fields.integer("token_count", 1, MAX_TOKENS),
            position_start=fields.integer("position_start", 0, MAX_POSITION),
            layers=fields.each("layers", LayerShape.read, limit=MAX_LAYERS),
            layers_per_shard=fields.integer("layers_per_shard", 1, MAX_LAYERS),
            dtype=fields.one_of("dtype", tuple(SAFETENSORS_NAMES)),
            codec=fields.text("codec"),
            rope=fields.json_object("rope"),
            numerics=fields.inner("numerics", Numerics.read),
            files=fields.each("files", FileEntry.read, limit=MAX_LAYERS + 1),
            context_checksum=fields.digest("context_checksum"),
            sources=fields.each("sources", SourceEntry.read, limit=MAX_SOURCES),
            verification=fields.inner_or_none("verification", Verification.read),
        )
        fields.close()
        manifest._check()
        return manifest

    @property
    def digest(self) -> str:
        """The digest of the canonical bytes: the artifact's name."""
        return digest_bytes(self.to_bytes())

    @property
    def geometry(self) -> KVGeometry:
        first = self.layers[0]
        return KVGeometry(len(self.layers), first.kv_heads, first.head_dim, self.dtype)

    @property
    def scope(self) -> Scope:
        return Scope(self.acl_scope, self.acl_owner)

    def plan(self) -> tuple[FilePlan, ...]:
        """Every file to the byte: the tokens first, then the KV shards in order."""
        return (
            plan_tokens(self.token_count),
            *plan_shards(self.geometry, self.token_count, self.layers_per_shard),
        )

    def _check(self) -> None:
        """What one field says about another."""
        if self.codec != "plain":
            raise FormatUnsupported(f"expected codec plain, found {self.codec!r:.90}", hint=_UPGRADE)
        if self.version != version_of(self.key):
            refuse("manifest.version", f"{version_of(self.key)}, from the key", self.version)
        if self.route != self.module_id:
            refuse("manifest.route", f"the module id {self.module_id}", self.route)
        if not _is_owner(self.acl_scope, self.acl_owner):
            refuse("manifest.acl_owner", f"an owner for the scope {self.acl_scope}", self.acl_owner)
        if not self.layers or self.layers_per_shard > len(self.layers):
            refuse("manifest.layers", f"at least {self.layers_per_shard} layers", len(self.layers))
        if len({(layer.kv_heads, layer.head_dim) for layer in self.layers}) > 1:
            raise FormatUnsupported("expected layers of one shape, found several", hint=_UPGRADE)
        check_geometry(self.geometry, self.token_count, self.position_start)
        if (self.parent is None) != (self.position_start == 0):
            refuse("manifest.position_start", "0 without a parent, more with one", self.position_start)
        expected = [(plan.name, plan.size) for plan in self.plan()]
        found = [(entry.name, entry.bytes) for entry in self.files]
        if found != expected:
            wrong = next((pair for pair in zip(expected, found, strict=False) if pair[0] != pair[1]), None)
            refuse("manifest.files", *(wrong or (f"{len(expected)} files", len(found))))


def _is_owner(scope: ScopeKind, owner: str) -> bool:
    parts = owner.split("/")
    match scope:
        case "public":
            return owner == ""
        case "tenant":
            return len(parts) == 1 and all(parts)
        case "workspace" | "user":
            return len(parts) == 2 and all(parts)


_UPGRADE = "upgrade Quire, or compile the module again with this one"
