"""Indexes for the three ways the catalogue is walked.

Why: a chain is followed by parent and an artifact found by digest on the way to an answer, and a rollback
reads one module's history; each of these scanned a whole table.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_module_versions_digest", "module_versions", ["digest"])
    op.create_index("ix_module_versions_parent", "module_versions", ["parent_module_id", "parent_version"])
    op.create_index("ix_module_history_module", "module_history", ["module_id", "sequence"])
