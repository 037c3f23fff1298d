"""The history becomes a chain of hashes, for more than modules.

Why: whoever can write to the database could change what the history says, and nobody would notice. Each record now
carries the hash of the one before it, so that a change shows. Access denials, routes and keys are recorded in the same
chain, for two histories could not say what came first. Ordinary writers can only append: triggers refuse the rest.
"""

from __future__ import annotations

from typing import Any

import rfc8785
import sqlalchemy as sa
from alembic import op
from blake3 import blake3

revision = "0003"
down_revision: str | None = "0002"
branch_labels = None
depends_on = None

_SAYS = "the audit log is append-only"
_LAST = "SELECT {} FROM audit_log ORDER BY sequence DESC LIMIT 1"
_FIRST = f"b3:{'0' * 64}"  # what the first record follows
_BROKEN = (
    f"NEW.sequence <> COALESCE(({_LAST.format('sequence')}), 0) + 1 "
    f"OR NEW.previous <> COALESCE(({_LAST.format('hash')}), '{_FIRST}')"
)


def upgrade() -> None:
    op.create_table(
        "audit_log",
        sa.Column(
            "sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False
        ),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("at", "kind", "who", "tenant", "what")),
        sa.Column("module", sa.Text),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("why", "digest", "details")),
        sa.Column("generation", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("previous", "hash")),
        sa.UniqueConstraint("previous", name="uq_audit_log_previous"),
    )
    op.create_index("ix_audit_log_module", "audit_log", ["module", "sequence"])
    op.create_index("ix_audit_log_kind", "audit_log", ["kind", "sequence"])
    _take_over_the_history(op.get_bind())
    op.drop_index("ix_module_history_module", "module_history")
    op.drop_table("module_history")
    _forbid_changes(op.get_bind().dialect.name)


def _take_over_the_history(connection: sa.Connection) -> None:
    """Hashing stands here once more, since this revision must do the same for ever."""
    log = sa.table("audit_log", *map(sa.column, _COLUMNS))
    query = sa.text(
        "SELECT h.*, COALESCE(v.tenant_id, '') AS tenant FROM module_history h LEFT JOIN module_versions v "
        "ON v.module_id = h.module_id AND v.version = h.version ORDER BY h.sequence"
    )
    previous = _FIRST
    for number, old in enumerate(connection.execute(query).mappings().all(), start=1):
        record: dict[str, Any] = {
            "sequence": number,
            "at": old["at"],
            "kind": f"module.{old['action']}",
            "who": old["actor"],
            "tenant": old["tenant"],
            "what": f"{old['module_id']}@{old['version']}",
            "module": old["module_id"],
            "why": old["reason"],
            "digest": old["digest"],
            "details": {"from": old["from_state"], "to": old["to_state"]},
            "generation": number,
            "previous": previous,
        }
        previous = f"b3:{blake3(rfc8785.dumps(record)).hexdigest()}"
        details = rfc8785.dumps(record["details"]).decode()
        connection.execute(sa.insert(log).values(**{**record, "details": details}, hash=previous))


_COLUMNS = (
    "sequence", "at", "kind", "who", "tenant", "what", "module", "why", "digest", "details", "generation", "previous",
    "hash",
)  # fmt: skip


def _forbid_changes(dialect: str) -> None:
    """In SQLite `INSERT OR REPLACE` deletes without asking the trigger on DELETE, hence the one on INSERT."""
    if dialect == "sqlite":
        refuse = f"BEGIN SELECT RAISE(ABORT, '{_SAYS}'); END"
        op.execute(f"CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log {refuse}")
        op.execute(f"CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log {refuse}")
        op.execute(f"CREATE TRIGGER audit_log_in_order BEFORE INSERT ON audit_log WHEN {_BROKEN} {refuse}")
        return
    op.execute(
        "CREATE FUNCTION audit_log_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_SAYS}'; END $$"
    )
    op.execute(
        "CREATE FUNCTION audit_log_append() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN IF {_BROKEN} THEN RAISE EXCEPTION '{_SAYS}'; END IF; RETURN NEW; END $$"
    )
    for name, when in (
        ("no_update", "BEFORE UPDATE ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_log_refuse()"),
        ("no_delete", "BEFORE DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_log_refuse()"),
        ("no_truncate", "BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION audit_log_refuse()"),
        ("in_order", "BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_log_append()"),
    ):
        op.execute(f"CREATE TRIGGER audit_log_{name} {when}")
