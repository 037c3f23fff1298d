"""The tables, as the newest revision of `migrations` leaves them.

    module_versions     one row per registered version; a partial unique index allows one live row per module
    module_history      append-only; its newest sequence is the registry's generation
    registry_revision   alembic's, under our own name so that a shared database can hold other schemas

Times are ISO 8601 text in UTC and documents are JSON text: both read the same in SQLite and PostgreSQL,
and a damaged one is our error to name, not a driver's.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

REVISION_TABLE = "registry_revision"

metadata = MetaData()

# SQLite numbers rows by itself only in a column that is spelled INTEGER.
_Sequence = BigInteger().with_variant(Integer, "sqlite")

versions = Table(
    "module_versions",
    metadata,
    Column("sequence", _Sequence, primary_key=True, autoincrement=True),
    Column("module_id", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("parent_module_id", Text),
    Column("parent_version", Text),
    Column("parent_digest", Text),
    Column("tenant_id", Text, nullable=False),
    Column("scope_kind", Text, nullable=False),
    Column("scope_owner", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("token_count", BigInteger, nullable=False),
    Column("position_start", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("model_fingerprint", Text, nullable=False),
    Column("tokenizer_fingerprint", Text, nullable=False),
    Column("layout_id", Text, nullable=False),
    Column("layout_version", Text, nullable=False),
    Column("layout_checksum", Text, nullable=False),
    Column("codec", Text, nullable=False),
    Column("sources", Text, nullable=False),
    Column("inputs", Text, nullable=False),
    Column("manifest", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("expires_at", Text),
    Column("pinned", Boolean, nullable=False),
    Column("verification", Text),
    UniqueConstraint("module_id", "version", name="uq_module_versions_module_version"),
    ForeignKeyConstraint(
        ["parent_module_id", "parent_version"],
        ["module_versions.module_id", "module_versions.version"],
        name="fk_module_versions_parent",
    ),
    CheckConstraint("state IN ('candidate', 'live', 'retired', 'revoked')", name="ck_module_versions_state"),
    CheckConstraint("scope_kind IN ('public', 'tenant', 'workspace', 'user')", name="ck_module_versions_scope"),
    Index(
        "uq_module_versions_one_live",
        "module_id",
        unique=True,
        sqlite_where=text("state = 'live'"),
        postgresql_where=text("state = 'live'"),
    ),
    Index("ix_module_versions_digest", "digest"),
    Index("ix_module_versions_parent", "parent_module_id", "parent_version"),
    sqlite_autoincrement=True,
)

history = Table(
    "module_history",
    metadata,
    Column("sequence", _Sequence, primary_key=True, autoincrement=True),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("module_id", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text),
    Column("reason", Text, nullable=False),
    Index("ix_module_history_module", "module_id", "sequence"),
    sqlite_autoincrement=True,
)
