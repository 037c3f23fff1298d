from __future__ import annotations

import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from services.registries import direct
from sqlalchemy import select

from quire.access import LOCAL, AccessEvent, Keys, Policy, Principal
from quire.errors import AccessDenied, InvalidRequest, KeyUnknown, QuireError, Unauthenticated
from quire.registry import AuditFilter, Registry
from quire.registry.keys import KeyRows
from quire.registry.schema import metadata

ADMIN = Principal("acme", "eve", roles=frozenset({"admin"}))
READER = Principal("acme", "ann", roles=frozenset({"reader"}))
SOON = timedelta(hours=1)


class Counting(KeyRows):
    """The real store, and how often last uses were written."""

    writes = 0

    def used(self, moments: Mapping[str, datetime]) -> None:
        self.writes += 1
        super().used(moments)


@pytest.fixture
def told() -> list[AccessEvent]:
    return []


@pytest.fixture
def keys(registry: Registry, told: list[AccessEvent]) -> Iterator[Keys]:
    made = Keys(registry.keys, Policy(told.append))
    yield made
    made.close()


def test_a_key_stands_for_whom_it_was_made_for(keys: Keys) -> None:
    record, key = keys.create(
        ADMIN, "Ann's laptop", tenant="acme", user="ann", workspaces=["billing", "legal"], roles=["reader", "auditor"]
    )
    assert keys.authenticate(key) == record.principal
    assert record.principal == Principal(
        "acme", "ann", frozenset({"billing", "legal"}), frozenset({"reader", "auditor"}), record.key_id
    )
    assert keys.get(ADMIN, record.key_id) == record
    assert record.created_by == "acme/eve"


def test_the_secret_stands_nowhere(
    keys: Keys, registry: Registry, told: list[AccessEvent], place: str, tmp_path: Path
) -> None:
    record, key = keys.create(ADMIN, "a program", tenant="acme")
    prefix, key_id, secret = key.split("_", 2)
    assert (prefix, key_id) == ("quire", record.key_id)
    assert len(secret) == 43  # 256 bits
    assert secret not in repr(keys.get(ADMIN, key_id)) + repr(told)
    registry.close()
    written = "".join(path.read_bytes().decode("latin-1") for path in tmp_path.iterdir())
    with direct(place) as connection:
        for table in metadata.sorted_tables:
            written += str(connection.execute(select(table)).fetchall())
    assert key_id in written
    assert secret not in written


def test_what_never_was_a_key_is_refused_alike(keys: Keys) -> None:
    _, key = keys.create(ADMIN, "a program", tenant="acme")
    _, other = keys.create(ADMIN, "another", tenant="acme")
    mixed = "_".join([*key.split("_")[:2], other.split("_", 2)[2]])
    unknown = f"quire_{'a' * 12}_{key.split('_', 2)[2]}"
    refusals = set()
    for wrong in (mixed, unknown, key[:-1], key + "x", "", "sk-unused", "quire_", key.upper(), "é" * 62, "\ud800"):
        with pytest.raises(Unauthenticated) as refused:
            keys.authenticate(wrong)
        refusals.add((refused.value.message, refused.value.hint))
    assert len(refusals) == 1


def test_an_expired_key_and_a_revoked_one_open_nothing(keys: Keys, registry: Registry) -> None:
    record, key = keys.create(ADMIN, "brief", tenant="acme", expires_at=datetime.now(UTC) + timedelta(seconds=3))
    keys.authenticate(key)
    time.sleep(3)
    with pytest.raises(Unauthenticated, match=f"{record.key_id} is expired"):
        keys.authenticate(key)
    record, key = keys.create(ADMIN, "lost", tenant="acme")
    elsewhere = Keys(registry.keys, Policy())  # as `quire keys revoke` beside a server
    assert elsewhere.revoke(ADMIN, record.key_id, "left on a train").state() == "revoked"
    with pytest.raises(Unauthenticated, match=f"{record.key_id} is revoked"):
        keys.authenticate(key)
    revoked_at = keys.get(ADMIN, record.key_id).revoked_at
    assert keys.revoke(ADMIN, record.key_id, "again").revoked_at == revoked_at


def test_an_administrator_manages_the_keys_of_its_tenant_alone(keys: Keys) -> None:
    own, _ = keys.create(ADMIN, "own", tenant="acme")
    foreign, _ = keys.create(LOCAL, "foreign", tenant="globex")
    assert keys.all(ADMIN) == [own]
    assert keys.all(LOCAL) == [own, foreign]
    assert keys.all(LOCAL, "globex") == [foreign]
    with pytest.raises(AccessDenied):
        keys.all(ADMIN, "globex")
    with pytest.raises(AccessDenied):
        keys.create(ADMIN, "intruder", tenant="globex")
    refusals = []
    for key_id in (foreign.key_id, "b" * 12):
        with pytest.raises(KeyUnknown) as unknown:
            keys.revoke(ADMIN, key_id, "mischief")
        refusals.append(str(unknown.value).replace(key_id, "ID") + unknown.value.hint)
    assert refusals[0] == refusals[1]
    assert keys.get(LOCAL, foreign.key_id).state() == "active"


def test_others_manage_no_keys(keys: Keys) -> None:
    record, _ = keys.create(ADMIN, "ann's", tenant="acme", user="ann")
    auditor = Principal("acme", "bob", roles=frozenset({"auditor", "publisher"}))
    for principal in (READER, auditor, Principal("acme", "nobody")):
        attempts: list[Callable[[], object]] = [
            partial(keys.all, principal),
            partial(keys.get, principal, record.key_id),
            partial(keys.revoke, principal, record.key_id, "why not"),
            partial(keys.create, principal, "more", tenant="acme"),
        ]
        for attempt in attempts:
            with pytest.raises(AccessDenied, match="keys needs the role admin or operator"):
                attempt()


def test_only_an_operator_grants_what_reaches_beyond_a_tenant(keys: Keys, registry: Registry) -> None:
    for role in ("operator", "monitor"):
        with pytest.raises(AccessDenied, match=f"only an operator grants the role {role}"):
            keys.create(ADMIN, "all of it", tenant="acme", roles=[role])
        record, key = keys.create(LOCAL, "all of it", tenant="acme", roles=[role])
        assert role in keys.authenticate(key).roles
        made = registry.audit.newest(AuditFilter(kinds=("key",)), 1)[0]
        assert (made.who, made.tenant, made.what) == ("local/local", "acme", f"key {record.key_id}")
        assert made.why == f"all of it: {role} for acme/(a program)"


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("title", {"title": " "}),
        ("title", {"title": "two\nlines"}),
        ("title", {"title": "x" * 129}),
        ("tenant", {"tenant": "Acme"}),
        ("tenant", {"tenant": "acme/billing"}),
        ("tenant", {"tenant": ""}),
        ("user", {"user": "a/b"}),
        ("workspaces", {"workspaces": ["ok", "no/t"]}),
        ("roles", {"roles": ["king"]}),
        ("roles", {"roles": []}),
        ("expires", {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}),
    ],
)
def test_what_cannot_be_granted_is_named(keys: Keys, field: str, wrong: dict[str, object]) -> None:
    given: dict[str, object] = {"title": "t", "tenant": "acme"} | wrong
    with pytest.raises(InvalidRequest) as refused:
        keys.create(LOCAL, given.pop("title"), **given)  # type: ignore[arg-type]
    assert refused.value.param == field
    assert keys.all(LOCAL) == []


def test_every_change_is_in_the_audit_log_with_it_and_refusals_are_told(
    keys: Keys, registry: Registry, told: list[AccessEvent]
) -> None:
    record, key = keys.create(ADMIN, "told", tenant="acme", user="ann", workspaces=["legal"])
    keys.revoke(ADMIN, record.key_id, "left")
    with pytest.raises(Unauthenticated):
        keys.authenticate(key)
    subject = f"key {record.key_id}"
    keys.revoke(ADMIN, record.key_id, "once more")
    assert [(r.kind, r.who, r.tenant, r.what, r.why) for r in registry.audit.each()] == [
        ("key.create", "acme/eve", "acme", subject, "told: reader for acme/ann in legal"),
        ("key.revoke", "acme/eve", "acme", subject, "left"),
    ]
    assert told == [
        AccessEvent("unauthenticated", record.principal, subject, f"{subject.replace('key', 'the key')} is revoked"),
    ]


def test_the_record_of_a_key_names_every_workspace(keys: Keys, registry: Registry) -> None:
    workspaces = [f"workspace-with-a-rather-long-name-{number:04}" for number in range(1000)]
    keys.create(ADMIN, "all of them", tenant="acme", user="ann", workspaces=workspaces, roles=["reader", "auditor"])
    (record,) = registry.audit.each()
    assert record.details == {"roles": ["auditor", "reader"], "user": "ann", "workspaces": workspaces}


def use(keys: Keys, key: str) -> None:
    for _ in range(50):
        keys.authenticate(key)


def test_last_use_is_written_once_for_many_requests(registry: Registry) -> None:
    store = Counting(registry._database, registry.audit)
    keys = Keys(store, Policy())
    made = [keys.create(ADMIN, f"key {i}", tenant="acme") for i in range(3)]
    began = datetime.now(UTC)
    threads = [threading.Thread(target=use, args=(keys, key)) for _, key in made[:2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.writes == 0
    keys.close()
    assert store.writes == 1
    used = [keys.get(ADMIN, record.key_id).last_used_at for record, _ in made]
    assert all(moment is not None and began <= moment <= datetime.now(UTC) for moment in used[:2])
    assert used[2] is None


def test_an_earlier_use_does_not_replace_a_later_one(registry: Registry, keys: Keys) -> None:
    record, _ = keys.create(ADMIN, "two servers", tenant="acme")
    later = datetime.now(UTC)
    registry.keys.used({record.key_id: later})
    registry.keys.used({record.key_id: later - SOON, "gone": later})
    assert keys.get(ADMIN, record.key_id).last_used_at == later


def test_a_use_that_cannot_be_written_is_written_later(registry: Registry, keys: Keys) -> None:
    from quire.access.last_used import LastUsed

    record, _ = keys.create(ADMIN, "busy", tenant="acme")
    failing = True

    def write(moments: object) -> None:
        if failing:
            raise QuireError("locked")
        registry.keys.used(moments)  # type: ignore[arg-type]

    uses = LastUsed(write, every_seconds=0.01)
    uses.note(record.key_id)
    time.sleep(0.1)
    assert keys.get(ADMIN, record.key_id).last_used_at is None
    failing = False
    deadline = time.monotonic() + 5
    while keys.get(ADMIN, record.key_id).last_used_at is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert keys.get(ADMIN, record.key_id).last_used_at is not None
    uses.close()


def test_wrong_secrets_take_the_time_of_unknown_keys(keys: Keys) -> None:
    _, key = keys.create(ADMIN, "timed", tenant="acme")
    wrong = key[:-4] + ("aaaa" if not key.endswith("aaaa") else "bbbb")
    unknown = re.sub(r"_[a-z2-7]{12}_", f"_{'a' * 12}_", key)
    times: dict[str, list[float]] = {wrong: [], unknown: []}
    for _ in range(200):
        for one, taken in times.items():
            began = time.perf_counter()
            with pytest.raises(Unauthenticated):
                keys.authenticate(one)
            taken.append(time.perf_counter() - began)
    medians = [statistics.median(taken) for taken in times.values()]
    assert max(medians) - min(medians) < 200e-6  # decoding the row that was found; the network hides milliseconds
