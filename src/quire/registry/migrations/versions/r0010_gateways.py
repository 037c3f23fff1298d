"""Servers on this registry.

Why: whoever revokes a version must be told which servers have not heard of it, and only the registry knows them all.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision: str | None = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gateways",
        sa.Column("gateway_id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("name", "started_at", "seen_at")),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("stale_seconds", sa.Float, nullable=False),
    )
