"""The catalogue of modules: which versions exist, which one is live, who changed it and why.

registry      Registry, one transaction per method
records       what it keeps and hands out
catalogue     finding versions            lifecycle    states and the ways between them
registration  entering versions           rollback     going back by history
retention     pins, forgetting            history      the audit trail
actor         who is at the keyboard
integrity     what fsck asks
database      transactions and errors     revisions    bringing the schema up to date
schema, rows  tables and their columns    migrations   the schema's past
"""

from quire.registry.actor import actor
from quire.registry.records import (
    Action,
    Finding,
    HistoryEntry,
    LayoutRef,
    ModuleSummary,
    SourceRef,
    VersionRecord,
)
from quire.registry.registry import Registry

__all__ = [
    "Action",
    "Finding",
    "HistoryEntry",
    "LayoutRef",
    "ModuleSummary",
    "Registry",
    "SourceRef",
    "VersionRecord",
    "actor",
]
