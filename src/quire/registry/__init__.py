"""The catalogue of modules: which versions exist, which one is live, who changed it and why.

registry      Registry, one transaction per method
records       what it keeps and hands out
catalogue     finding versions            lifecycle    states and the ways between them
registration  entering versions           rollback     going back by history
retention     pins, forgetting            history      what became of modules
staleness     why a version is stale      invalidation  noting it, taking readers away
audit         the chain of records        actor        who makes a change
view          what of it is within a reach   keys        API keys
moving        dumping and loading all of it (dumping)
integrity     what fsck asks                 routes       route tables, and the way back
following     applying what others change     known        the last that is known of it, copied by `copying`
gateways      the servers that follow it
usage         tokens of tenants, by month
database      transactions and errors      postgres, pinging   what a server needs beside that
outcomes      what became of a change when the registry could not be reached
revisions     bringing the schema up        golden       what versions are tested with
canaries, canary_rows, figures   a candidate beside the live version
schema, rows  tables and their columns    migrations   the schema's past
"""

from quire.registry.actor import actor, server_actor
from quire.registry.audit import (
    KINDS,
    AuditEvent,
    AuditFilter,
    AuditLog,
    AuditRecord,
    Folding,
    Head,
    Recorder,
    RecorderState,
    Verdict,
    moment_of,
    recordable,
)
from quire.registry.canaries import Canaries
from quire.registry.canary_rows import Canary
from quire.registry.figures import Arm
from quire.registry.following import Follower, FollowerState
from quire.registry.gateways import GatewayState
from quire.registry.golden import GoldenTests
from quire.registry.invalidation import Mark
from quire.registry.moving import Dumped, dump_registry, load_registry
from quire.registry.outcomes import MADE, NOT_MADE, UNKNOWN, telling
from quire.registry.records import (
    Action,
    Finding,
    HistoryEntry,
    LayoutRef,
    MadeFor,
    ModuleSummary,
    SourceRef,
    VersionRecord,
)
from quire.registry.registry import Registry
from quire.registry.routes import RouteDraft, RouteTables, RouteVersion
from quire.registry.staleness import SAID, Reason, Staleness, Trigger, triggers_of
from quire.registry.view import View

__all__ = [
    "KINDS",
    "MADE",
    "NOT_MADE",
    "SAID",
    "UNKNOWN",
    "Action",
    "Arm",
    "AuditEvent",
    "AuditFilter",
    "AuditLog",
    "AuditRecord",
    "Canaries",
    "Canary",
    "Dumped",
    "Finding",
    "Folding",
    "Follower",
    "FollowerState",
    "GatewayState",
    "GoldenTests",
    "Head",
    "HistoryEntry",
    "LayoutRef",
    "MadeFor",
    "Mark",
    "ModuleSummary",
    "Reason",
    "Recorder",
    "RecorderState",
    "Registry",
    "RouteDraft",
    "RouteTables",
    "RouteVersion",
    "SourceRef",
    "Staleness",
    "Trigger",
    "Verdict",
    "VersionRecord",
    "View",
    "actor",
    "dump_registry",
    "load_registry",
    "moment_of",
    "recordable",
    "server_actor",
    "telling",
    "triggers_of",
]
