"""API keys, and indexes by which only visible versions are read.

Why: a key must outlive the process that made it, and its secret must not stand anywhere. And a reader who looks for a
module that is hidden from him must cause the same work as one who looks for none: the indexes lead to the versions of
the scopes that he sees, and past all others. They are on columns of their own, so that no planner can prefer to go by
the name and read the scopes of everything that has it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("digest", "title", "tenant_id", "user_name")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("workspaces", "roles", "created_at", "created_by")),
        *(sa.Column(name, sa.Text) for name in ("expires_at", "revoked_at", "last_used_at")),
    )
    op.create_index("ix_api_keys_tenant", "api_keys", ["tenant_id", "created_at"])
    scope = "scope_kind || ':' || scope_owner"
    # SQLite adds no stored column to a table that is there, PostgreSQL has no index on one that is not stored.
    stored = None if op.get_bind().dialect.name == "sqlite" else True
    for name, computed in (("scope", scope), ("scope_name", f"{scope} || '@' || module_id")):
        op.add_column("module_versions", sa.Column(name, sa.Text, sa.Computed(computed, persisted=stored)))
        op.create_index(f"ix_module_versions_{name}", "module_versions", [name])
