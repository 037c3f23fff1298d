"""Golden tests: what each version declares, and what came of asking it.

Why: a version goes live only after it answered the questions that its project expects it to answer. So the registry
itself must know what they are, by checksum, and what was answered from which bytes; any server on it can then ask them,
and nobody goes around them by going around one command.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision: str | None = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "golden_suites",
        sa.Column("checksum", sa.Text, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "golden_declared",
        sa.Column("module_id", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("suite", sa.Text, nullable=False),
    )
    op.create_table(
        "golden_runs",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("module_id", "version", "digest", "suite")),
        sa.Column("green", sa.Boolean, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("at", "actor", "engine", "verdicts")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_golden_runs_version", "golden_runs", ["module_id", "version", "sequence"])
