"""Canaries: two versions of a module side by side, and what was seen of each.

Why: how a candidate does on real questions must survive the server that saw it, be the same for all servers on one
registry, and be there to be read when somebody asks later why it went live.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision: str | None = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "canaries",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("module_id", "version", "digest", "against")),
        sa.Column("percent", sa.Integer, nullable=False),
        sa.Column("shadow", sa.Boolean, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("started_at", "started_by", "reason")),
        *(sa.Column(name, sa.Text) for name in ("ended_at", "ended")),
        sa.Column("figures", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    running = sa.text("ended_at IS NULL")
    op.create_index(
        "uq_canaries_one_running",
        "canaries",
        ["module_id"],
        unique=True,
        sqlite_where=running,
        postgresql_where=running,
    )
