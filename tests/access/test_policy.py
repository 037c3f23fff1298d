from __future__ import annotations

import random
import time

import pytest
from oracle import Thing, may

from quire.access import (
    ACTIONS,
    EVERYTHING,
    LOCAL,
    PUBLIC,
    ROLES,
    AccessEvent,
    Policy,
    Principal,
    readable_scopes,
    unseen,
)
from quire.core import Scope
from quire.errors import AccessDenied, ModuleUnknown

TENANTS = ("acme", "globex", "ac", "acme-eu")
INNER = ("billing", "legal", "ann", "acme", "bob")  # names that are workspaces, users and tenants at once
TRIPLES = 100_000
ANN = Principal("acme", "ann", frozenset({"billing"}), frozenset({"reader"}), "k1")


def a_principal(draw: random.Random) -> Principal:
    return Principal(
        tenant=draw.choice(TENANTS),
        user=draw.choice(("", *INNER)),
        workspaces=frozenset(draw.sample(INNER, draw.randrange(3))),
        roles=frozenset(draw.sample(sorted(ROLES), draw.choice((0, 1, 1, 1, 2)))),
        key_id=draw.choice(("", "k1", "k2")),
    )


def a_thing(draw: random.Random) -> Thing:
    tenant, inner = draw.choice(TENANTS), draw.choice(INNER)
    scope = draw.choice(
        (
            None,
            Scope("public"),
            Scope("tenant", tenant),
            Scope("workspace", f"{tenant}/{inner}"),
            Scope("user", f"{tenant}/{inner}"),
        )
    )
    return Thing(scope, draw.choice(TENANTS))


def test_policy_and_oracle_agree_on_100_000_random_triples() -> None:
    draw = random.Random(4)
    policy = Policy()
    allowed = dict.fromkeys(ACTIONS, 0)
    for _ in range(TRIPLES):
        principal, thing, action = a_principal(draw), a_thing(draw), draw.choice(ACTIONS)
        decision = policy.decide(principal, action, thing.scope, owner=thing.owner)
        assert decision.allowed == may(principal, action, thing), (principal, action, thing, decision)
        assert decision.reason
        allowed[action] += decision.allowed
    assert min(allowed.values()) > TRIPLES / 100  # neither side agrees by always saying no


def test_the_reach_is_what_may_be_read() -> None:
    draw = random.Random(5)
    for _ in range(TRIPLES // 10):
        principal, thing = a_principal(draw), a_thing(draw)
        if thing.scope is not None:
            assert (thing.scope in readable_scopes(principal)) == may(principal, "read", thing)


def test_a_reach_is_finite_and_names_each_scope_once() -> None:
    assert {str(scope) for scope in readable_scopes(ANN).scopes} == {
        "public",
        "tenant:acme",
        "workspace:acme/billing",
        "user:acme/ann",
    }
    assert readable_scopes(Principal("acme", roles=frozenset({"reader"}))).scopes == {PUBLIC, Scope("tenant", "acme")}
    assert not readable_scopes(Principal("acme", "ann", roles=frozenset({"auditor"}))).scopes
    assert readable_scopes(LOCAL) == EVERYTHING


def test_selecting_by_reach_costs_what_is_within_it_and_not_what_is_hidden() -> None:
    def seconds(hidden: int) -> float:
        parts = {Scope("user", f"globex/u{i}"): i for i in range(hidden)} | {PUBLIC: 0, Scope("tenant", "acme"): 1}
        reach = readable_scopes(ANN)
        began = time.perf_counter()
        for _ in range(1_000):
            assert list(reach.select(parts)) == [0, 1]
        return time.perf_counter() - began

    few, many = (min(seconds(n) for _ in range(5)) for n in (0, 50_000))
    assert many < 2 * few + 0.002


def test_an_unseen_module_and_a_missing_one_are_refused_and_recorded_alike() -> None:
    told: list[AccessEvent] = []
    policy = Policy(told.append)
    with pytest.raises(ModuleUnknown) as hidden:
        policy.require_readable(ANN, "plans", [Scope("public"), Scope("tenant", "globex")])
    missing = unseen("plans")
    policy.note_unseen(ANN, "plans")
    assert (str(hidden.value), hidden.value.hint) == (str(missing), missing.hint)
    assert [(e.kind, e.principal, e.subject) for e in told] == [("denied", ANN, "read plans")] * 2


def test_a_refused_action_says_why_and_is_recorded() -> None:
    told: list[AccessEvent] = []
    with pytest.raises(AccessDenied, match="keys needs the role admin or operator"):
        Policy(told.append).require(ANN, "keys", Scope("tenant", "acme"))
    assert [(e.subject, e.principal) for e in told] == [("keys tenant:acme", ANN)]


def test_nothing_is_shared_between_users_or_between_keys_without_one() -> None:
    assert ANN.identity == Principal("acme", "ann", key_id="k2").identity
    assert Principal("acme", key_id="k1").identity != Principal("acme", key_id="k2").identity
    assert Principal("acme", "k1").identity != Principal("acme", key_id="k1").identity
    assert ANN.identity != Principal("globex", "ann").identity
