"""The catalogue and its history.

Why: versions must outlive the process that compiled them, and every change must say who made it and why.
That a module has at most one live version is the database's rule, not only the code's: two processes that
publish at the same moment must not both succeed in being live.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "module_versions",
        _sequence(),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("module_id", "version", "key", "digest")),
        sa.Column("state", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("parent_module_id", "parent_version", "parent_digest")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("tenant_id", "scope_kind", "scope_owner")),
        sa.Column("title", sa.Text, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("token_count", "position_start", "bytes")),
        *(sa.Column(f"{name}_fingerprint", sa.Text, nullable=False) for name in ("model", "tokenizer")),
        *(sa.Column(f"layout_{name}", sa.Text, nullable=False) for name in ("id", "version", "checksum")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("codec", "sources", "inputs", "manifest")),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.Column("verification", sa.Text),
        sa.UniqueConstraint("module_id", "version", name="uq_module_versions_module_version"),
        sa.ForeignKeyConstraint(
            ["parent_module_id", "parent_version"],
            ["module_versions.module_id", "module_versions.version"],
            name="fk_module_versions_parent",
        ),
        sa.CheckConstraint("state IN ('candidate', 'live', 'retired', 'revoked')", name="ck_module_versions_state"),
        sa.CheckConstraint("scope_kind IN ('public', 'tenant', 'workspace', 'user')", name="ck_module_versions_scope"),
        sqlite_autoincrement=True,
    )
    only_live = sa.text("state = 'live'")
    op.create_index(
        "uq_module_versions_one_live",
        "module_versions",
        ["module_id"],
        unique=True,
        sqlite_where=only_live,
        postgresql_where=only_live,
    )
    op.create_table(
        "module_history",
        _sequence(),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("at", "actor", "action")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("module_id", "version", "digest")),
        *(sa.Column(name, sa.Text) for name in ("from_state", "to_state")),
        sa.Column("reason", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )


def _sequence() -> sa.Column[int]:
    kind = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    return sa.Column("sequence", kind, primary_key=True, autoincrement=True)
