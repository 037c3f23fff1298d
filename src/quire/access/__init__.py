"""Who asks, and what it may see and do. docs/access.md has the model; nothing here knows of HTTP.

principal   Principal, its roles and what they carry; LOCAL, for whoever is at this machine
reach       the scopes that a principal may read
policy      Policy.decide(principal, action, scope) -> Decision(allowed, reason)
keys        API keys: made, shown once, checked, revoked; key_records says how they are kept
last_used   when keys were used, gathered
tokens      tokens of an OpenID Connect issuer; signing_keys are the issuer's. Imported from there, by who wants them
authentication   from what a request brings to a principal
events      denials and changes of keys, for the audit log; strangers keeps those of unknown callers few
"""

from quire.access.authentication import Authenticator
from quire.access.events import AccessEvent, Recorder, unrecorded
from quire.access.key_records import KeyRecord, KeyStore
from quire.access.keys import Keys
from quire.access.policy import Decision, Policy, tenant_of, unseen
from quire.access.principal import ACTIONS, LOCAL, ROLES, SERVER_ROLES, Action, Principal, Role
from quire.access.reach import EVERYTHING, PUBLIC, Reach, readable_scopes, scope_within
from quire.access.strangers import Strangers

__all__ = [
    "ACTIONS",
    "EVERYTHING",
    "LOCAL",
    "PUBLIC",
    "ROLES",
    "SERVER_ROLES",
    "AccessEvent",
    "Action",
    "Authenticator",
    "Decision",
    "KeyRecord",
    "KeyStore",
    "Keys",
    "Policy",
    "Principal",
    "Reach",
    "Recorder",
    "Role",
    "Strangers",
    "readable_scopes",
    "scope_within",
    "tenant_of",
    "unrecorded",
    "unseen",
]
