"""Records to register, told apart by module and number; everything else about them is the same."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

from quire.core import Scope
from quire.registry import LayoutRef, SourceRef, VersionRecord

BY = {"actor": "tester", "reason": "because the test says so"}
CREATED = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)


def digest_of(manifest: str) -> str:
    """Any function of the manifest will do for a digest here."""
    return "b3:" + hashlib.sha256(manifest.encode()).hexdigest()


def record(
    module_id: str, number: int = 1, *, parent: VersionRecord | None = None, numerics: str = "cpu-1"
) -> VersionRecord:
    """Version `number` of a module, as compiled under `numerics`: same key, other digest."""
    key = "b3:" + hashlib.sha256(f"{module_id} {number}".encode()).hexdigest()
    version = key[3:15]
    manifest = json.dumps(
        {
            "module_id": module_id,
            "version": version,
            "key": key,
            "numerics": numerics,
            "parent": parent.digest if parent else None,
        }
    )
    return VersionRecord(
        module_id=module_id,
        version=version,
        key=key,
        digest=digest_of(manifest),
        parent=parent.ref if parent else None,
        tenant_id="acme",
        scope=Scope("tenant", "acme"),
        title=f"{module_id}, número {number}",
        token_count=100,
        position_start=parent.token_count if parent else 0,
        bytes=2_304_000,
        model_fingerprint="b3:model",
        tokenizer_fingerprint="b3:tokenizer",
        layout=LayoutRef("chat", "1", "b3:layout"),
        codec="raw",
        sources=(SourceRef("docs/billing.md", "b3:bytes", "b3:text"),),
        inputs={"number": number, "sources": ["b3:text"]},
        manifest=manifest,
        created_at=CREATED,
        verification={"max_logit_difference": 0.0},
    )
