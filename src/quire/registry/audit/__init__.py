"""The audit log: who did what, when and why, in records that cannot be changed without it showing.

events     what is recorded, and how it reads back     chain      appending, hashing, finding records
anchor     the head of the chain, kept outside of it    checking   what `quire audit verify` looks for
log        AuditLog: transactions around all of that    recorder   a queue, for what must not wait for the disk
access_events   what access has to say, as a record    moments    times as people write them
folding    how often a machine may repeat itself
"""

from quire.registry.audit.checking import Verdict
from quire.registry.audit.events import KINDS, AuditEvent, AuditFilter, AuditRecord, Head, recordable
from quire.registry.audit.folding import Folding
from quire.registry.audit.log import AuditLog
from quire.registry.audit.moments import moment_of
from quire.registry.audit.recorder import Recorder, RecorderState

__all__ = [
    "KINDS",
    "AuditEvent",
    "AuditFilter",
    "AuditLog",
    "AuditRecord",
    "Folding",
    "Head",
    "Recorder",
    "RecorderState",
    "Verdict",
    "moment_of",
    "recordable",
]
