"""What is stale, and who may read it meanwhile.

Why: all gateways on one registry must agree on what a stale module may still do, also after a restart; and readers whom
a new acl leaves out must be refused at once, not only when the module has been built anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("module_versions", sa.Column("stale", sa.Text))
    op.add_column("module_versions", sa.Column("narrowed", sa.Text))
