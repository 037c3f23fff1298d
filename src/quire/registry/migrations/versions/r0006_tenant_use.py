"""Tokens that tenants used, by month.

Why: a monthly budget must hold across restarts, and for all servers on one registry together.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tenant_use",
        sa.Column("month", sa.Text, primary_key=True),
        sa.Column("tenant_id", sa.Text, primary_key=True),
        sa.Column("tokens", sa.BigInteger, nullable=False),
    )
