"""An index of the audit log by tenant.

Why: the auditors of a tenant read its newest records, and those of one that does little must not be searched for in all
that the others did.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_audit_log_tenant", "audit_log", ["tenant", "sequence"])
