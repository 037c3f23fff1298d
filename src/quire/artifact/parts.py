"""What a manifest is made of. Each part reads itself from untrusted fields, or refuses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Self, get_args

from quire.artifact.fields import Fields, refuse
from quire.artifact.identity import version_of
from quire.artifact.shards import MAX_HEAD_DIM, MAX_KV_HEADS, MAX_TOKENS
from quire.errors import FormatUnsupported

MODULE_ID = re.compile(r"(?=.{1,128}\Z)[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
VERSION = re.compile(r"[0-9a-f]{12}")
FILE_NAME = re.compile(r"(tokens|kv-[0-9]{5})\.safetensors")

LayerKind = Literal["full_attention", "sliding_window", "latent", "recurrent"]


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The model whose KV this is. `fingerprint`: tagged checksum over its config and weights."""

    name: str
    revision: str
    fingerprint: str

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(fields.text("name"), fields.text("revision", empty=True), fields.tagged("fingerprint"))


@dataclass(frozen=True, slots=True)
class LayoutIdentity:
    """The prompt template that the tokens were laid out by."""

    id: str
    version: str
    checksum: str

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(fields.text("id"), fields.text("version"), fields.tagged("checksum"))


@dataclass(frozen=True, slots=True)
class ParentIdentity:
    """The module that stands before this one: exactly one artifact, by its digest."""

    module_id: str
    version: str
    key: str
    digest: str

    @classmethod
    def read(cls, fields: Fields) -> Self:
        found = cls(
            module_id=fields.matching("module_id", MODULE_ID, "a module id"),
            version=fields.matching("version", VERSION, "12 hex digits"),
            key=fields.digest("key"),
            digest=fields.digest("digest"),
        )
        if found.version != version_of(found.key):
            refuse(f"{fields.where}.version", f"{version_of(found.key)}, from the key", found.version)
        return found


@dataclass(frozen=True, slots=True)
class LayerShape:
    """One attention layer. Format version 1 reads "full_attention" only."""

    kind: LayerKind
    kv_heads: int
    head_dim: int

    @classmethod
    def read(cls, fields: Fields) -> Self:
        kind: LayerKind = fields.one_of("kind", get_args(LayerKind))
        if kind != "full_attention":
            raise FormatUnsupported(
                f"{fields.where}: expected full_attention, found {kind}, which format version 1 reserves",
                hint="upgrade Quire, or compile the module again with this one",
            )
        return cls(kind, fields.integer("kv_heads", 1, MAX_KV_HEADS), fields.integer("head_dim", 1, MAX_HEAD_DIM))


@dataclass(frozen=True, slots=True)
class Numerics:
    """What the last bits of the KV depend on. `prefill_chunk`: tokens per forward pass, 0 for all at once."""

    device: str
    threads: int
    prefill_chunk: int
    libraries: dict[str, str]

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            device=fields.text("device"),
            threads=fields.integer("threads", 1, 1 << 16),
            prefill_chunk=fields.integer("prefill_chunk", 0, MAX_TOKENS),
            libraries=fields.inner("libraries", Fields.texts),
        )


@dataclass(frozen=True, slots=True)
class FileEntry:
    name: str
    bytes: int
    digest: str

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            name=fields.matching("name", FILE_NAME, "tokens.safetensors or kv-<5 digits>.safetensors"),
            bytes=fields.integer("bytes", 1),
            digest=fields.digest("digest"),
        )


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """A source as it was compiled: the digest of its canonical text. That of the file is in the registry."""

    path: str
    media: str
    text_digest: str

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            path=fields.text("path", limit=4096),
            media=fields.text("media"),
            text_digest=fields.tagged("text_digest"),
        )


@dataclass(frozen=True, slots=True)
class Verification:
    """How restored KV was compared with a prefill from scratch, and the largest difference of any logit."""

    method: str
    largest_logit_difference: float
    tokens: int

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            method=fields.text("method"),
            largest_logit_difference=fields.magnitude("largest_logit_difference"),
            tokens=fields.integer("tokens", 0),
        )
