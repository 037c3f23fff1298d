"""The tables, as the newest revision of `migrations` leaves them.

    module_versions     one row per registered version; a partial unique index allows one live row per module
    module_history      append-only; its newest sequence is the registry's generation
    api_keys            who may ask; of each key's secret only the digest
    golden_suites       golden tests, by checksum
    golden_declared     the suite that a version must pass before it goes live; no row: none
    golden_runs         what came of asking them
    canaries            candidates beside live versions, and what was seen of both; one at a time for each module
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
    Computed,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
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
    Column("stale", Text),  # what `registry.staleness` says; null: as its inputs say
    Column("narrowed", Text),  # as `scope`: who alone may read it until it is built anew, of those who may
    Column("scope", Text, Computed("scope_kind || ':' || scope_owner")),
    Column("scope_name", Text, Computed("scope_kind || ':' || scope_owner || '@' || module_id")),
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
    Index("ix_module_versions_scope", "scope"),
    Index("ix_module_versions_scope_name", "scope_name"),
    sqlite_autoincrement=True,
)

# What happened, each record with the hash of the one before it. `module` repeats what `what` begins with where that is
# a module, since its history is asked for by it.
audit_log = Table(
    "audit_log",
    metadata,
    Column("sequence", _Sequence, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("module", Text),
    Column("why", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
    UniqueConstraint("previous", name="uq_audit_log_previous"),
    Index("ix_audit_log_module", "module", "sequence"),
    Index("ix_audit_log_kind", "kind", "sequence"),
    Index("ix_audit_log_tenant", "tenant", "sequence"),
)
AUDIT_TRIGGERS = ("audit_log_in_order", "audit_log_no_delete", "audit_log_no_update")

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("tenant_id", Text, nullable=False),
    Column("user_name", Text, nullable=False),
    Column("workspaces", Text, nullable=False),
    Column("roles", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", Text),
    Column("revoked_at", Text),
    Column("last_used_at", Text),
    Index("ix_api_keys_tenant", "tenant_id", "created_at"),
)

# Which one is in force is what the audit log says last.
route_tables = Table(
    "route_tables",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("document", Text, nullable=False),
    Column("weights", LargeBinary, nullable=False),
    Column("created_at", Text, nullable=False),
)

tenant_use = Table(
    "tenant_use",
    metadata,
    Column("month", Text, primary_key=True),  # such as 2026-11, in UTC
    Column("tenant_id", Text, primary_key=True),
    Column("tokens", BigInteger, nullable=False),
)

golden_suites = Table(
    "golden_suites",
    metadata,
    Column("checksum", Text, primary_key=True),
    Column("document", Text, nullable=False),
)

golden_declared = Table(
    "golden_declared",
    metadata,
    Column("module_id", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("suite", Text, nullable=False),
)

golden_runs = Table(
    "golden_runs",
    metadata,
    Column("sequence", _Sequence, primary_key=True, autoincrement=True),
    Column("module_id", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("suite", Text, nullable=False),
    Column("green", Boolean, nullable=False),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("engine", Text, nullable=False),
    Column("verdicts", Text, nullable=False),
    Index("ix_golden_runs_version", "module_id", "version", "sequence"),
    sqlite_autoincrement=True,
)

# Servers that follow this registry, as they last said. Rows are their own and stand in no audit log.
gateways = Table(
    "gateways",
    metadata,
    Column("gateway_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("started_at", Text, nullable=False),
    Column("seen_at", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("stale_seconds", Float, nullable=False),
)

canaries = Table(
    "canaries",
    metadata,
    Column("number", _Sequence, primary_key=True, autoincrement=True),
    Column("module_id", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("against", Text, nullable=False),
    Column("percent", Integer, nullable=False),
    Column("shadow", Boolean, nullable=False),
    Column("started_at", Text, nullable=False),
    Column("started_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("ended_at", Text),
    Column("ended", Text),
    Column("figures", Text, nullable=False),
    Index(
        "uq_canaries_one_running",
        "module_id",
        unique=True,
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
    sqlite_autoincrement=True,
)
