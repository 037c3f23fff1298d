"""The inputs of a module's key: everything that decides what compiling it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quire.artifact import FORMAT_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.core import ModuleSpec
    from quire.settings import Settings
    from quire.sources import Document
    from quire.staleness.identity import Identity


def inputs_of(
    settings: Settings, spec: ModuleSpec, parent_key: str | None, documents: Sequence[Document], identity: Identity
) -> dict[str, Any]:
    """As JSON values, for `key_of`."""
    return {
        "format_version": FORMAT_VERSION,
        "module_id": spec.module_id,
        "title": spec.title,
        "tenant_id": spec.tenant,
        "acl": str(spec.scope),
        "sources": [{"path": d.path, "media": d.media, "text_digest": d.text_digest} for d in documents],
        "layout": identity.layout,
        "parent": parent_key,
        "model": identity.model,
        "tokenizer": identity.tokenizer,
        "dtype": identity.dtype,
        "codec": "plain",
        "prefill_chunk": settings["build.prefill_chunk"],
        "shard_bytes": settings["build.shard_bytes"],
    }
