"""Records to rows and back. Refused: a record that contradicts itself, a row that does not decode."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, cast, get_args

from sqlalchemy import RowMapping, Table

from quire.core import ModuleRef, Scope, ScopeKind
from quire.errors import RecordInvalid, RegistryUnreadable
from quire.registry.audit.chain import time_text
from quire.registry.records import LayoutRef, SourceRef, VersionRecord
from quire.registry.schema import versions
from quire.registry.staleness import Staleness

_Types = tuple[tuple[str, type, bool], ...]


def _types_of(table: Table) -> _Types:
    return tuple((column.name, column.type.python_type, bool(column.nullable)) for column in table.columns)


_VERSION_TYPES = _types_of(versions)


def to_row(record: VersionRecord) -> dict[str, Any]:
    """The columns that say what `record` is. Raises RecordInvalid.

    Without `sequence`, and without what is only found out later and stays when a record is brought up to date.
    """
    _check(record)
    parent = record.parent
    return {
        "module_id": record.module_id,
        "version": record.version,
        "key": record.key,
        "digest": record.digest,
        "state": record.state,
        "parent_module_id": parent.module_id if parent else None,
        "parent_version": parent.version if parent else None,
        "parent_digest": parent.digest if parent else None,
        "tenant_id": record.tenant_id,
        "scope_kind": record.scope.kind,
        "scope_owner": record.scope.owner,
        "title": record.title,
        "token_count": record.token_count,
        "position_start": record.position_start,
        "bytes": record.bytes,
        "model_fingerprint": record.model_fingerprint,
        "tokenizer_fingerprint": record.tokenizer_fingerprint,
        "layout_id": record.layout[0],
        "layout_version": record.layout[1],
        "layout_checksum": record.layout[2],
        "codec": record.codec,
        "sources": _json_text(record, "sources", [list(source) for source in record.sources]),
        "inputs": _json_text(record, "inputs", record.inputs),
        "manifest": record.manifest,
        "created_at": time_text(record.created_at),
        "expires_at": time_text(record.expires_at) if record.expires_at else None,
        "pinned": record.pinned,
        "verification": None
        if record.verification is None
        else _json_text(record, "verification", record.verification),
    }


def to_record(row: RowMapping) -> VersionRecord:
    """The record of one row of `module_versions`. Raises RegistryUnreadable if a column does not decode."""
    try:
        _check_types(row, _VERSION_TYPES)
        return VersionRecord(
            module_id=row["module_id"],
            version=row["version"],
            key=row["key"],
            digest=row["digest"],
            state=row["state"],
            parent=None
            if row["parent_module_id"] is None
            else ModuleRef(row["parent_module_id"], row["parent_version"], row["parent_digest"]),
            tenant_id=row["tenant_id"],
            scope=Scope(row["scope_kind"], row["scope_owner"]),
            title=row["title"],
            token_count=row["token_count"],
            position_start=row["position_start"],
            bytes=row["bytes"],
            model_fingerprint=row["model_fingerprint"],
            tokenizer_fingerprint=row["tokenizer_fingerprint"],
            layout=LayoutRef(row["layout_id"], row["layout_version"], row["layout_checksum"]),
            codec=row["codec"],
            sources=tuple(SourceRef(*source) for source in json.loads(row["sources"])),
            inputs=_object(row["inputs"]),
            manifest=row["manifest"],
            created_at=datetime.fromisoformat(row["created_at"]),
            expires_at=datetime.fromisoformat(row["expires_at"]) if row["expires_at"] else None,
            pinned=row["pinned"],
            verification=None if row["verification"] is None else _object(row["verification"]),
            stale=None if row["stale"] is None else Staleness.parse(_object(row["stale"])),
            narrowed=None if row["narrowed"] is None else _scope(row["narrowed"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise RegistryUnreadable(
            f"the registry's row of {row['module_id']}@{row['version']} does not decode: {error}",
            hint="keep it aside and restore a backup: a new one knows no keys, no history and nothing that was revoked",
        ) from error


def scope_text(scope: Scope) -> str:
    """A scope as the column `scope` has it: unlike `str`, with a colon behind ``public`` too."""
    return f"{scope.kind}:{scope.owner}"


def _scope(text: str) -> Scope:
    kind, _, owner = text.partition(":")
    if kind not in get_args(ScopeKind):
        raise ValueError(f"narrowed: expected a scope, found {text!r}")
    return Scope(cast("ScopeKind", kind), owner)


def _check_types(row: RowMapping, types: _Types) -> None:
    """SQLite keeps any kind of value in any column, so a damaged page may hand out numbers for text."""
    for name, expected, nullable in types:
        value = row[name]
        if not isinstance(value, expected) and not (nullable and value is None):
            raise ValueError(f"{name}: expected {expected.__name__}, found {type(value).__name__}")


def _check(record: VersionRecord) -> None:
    module_id, version = record.module_id, record.version
    if not module_id.strip() or "@" in module_id:
        raise RecordInvalid(
            f"a module's name must not be empty or contain '@', found {module_id!r}",
            hint="'@' separates a name from its version, as in billing@1f3c",
        )
    if not version or not record.key.rpartition(":")[2].startswith(version):
        raise RecordInvalid(f"{module_id}: version must be the first digits of key {record.key!r}, found {version!r}")
    if not record.digest:
        raise RecordInvalid(f"{module_id}@{version}: digest must name an artifact, found ''")
    for name in ("token_count", "position_start", "bytes"):
        if getattr(record, name) < 0:
            raise RecordInvalid(f"{module_id}@{version}: {name} must be 0 or more, found {getattr(record, name)}")


def _json_text(record: VersionRecord, name: str, value: object) -> str:
    try:
        return json.dumps(value, allow_nan=False, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise RecordInvalid(f"{record.module_id}@{record.version}: {name} must be plain JSON, found {error}") from error


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    return value
