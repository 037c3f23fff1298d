"""Two tenants on one server: each asks what is its own, and finds no trace of the rest."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from issuing import ec_key, key_set, public, rsa_key, token
from openai import AuthenticationError, NotFoundError, OpenAI

from quire import open_project
from quire.access import LOCAL
from quire.errors import InvalidSetting
from quire.gateway import serve
from quire.gateway.endpoints import ENDPOINTS
from quire.registry import AuditFilter

from .process import Server, eventually
from .two_tenants import HIDDEN_FROM_BOB, MODULES, SETTINGS, TwoTenants, build

QUESTION: list[Any] = [{"role": "user", "content": "What does a bolt cost?"}]


@pytest.fixture
def openai_as(tenants: TwoTenants, tenants_server: Server) -> Iterator[Callable[[str], OpenAI]]:
    """The official client with a key by its name, or with a token."""
    with ExitStack() as stack:
        yield lambda who: stack.enter_context(
            OpenAI(base_url=f"{tenants_server.url}/v1", api_key=tenants.keys.get(who, who), max_retries=0)
        )


@pytest.fixture
def call(tenants: TwoTenants, tenants_server: Server) -> Callable[..., httpx.Response]:
    """`call("bob", "GET", "/v1/modules")`: a plain request as somebody."""

    def send(who: str, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {tenants.keys.get(who, who)}"}
        if method == "GET":
            return tenants_server.get(path, headers=headers)
        return tenants_server.post(path, headers=headers, json={} if body is None else body)

    return send


def ask(client: OpenAI, module: str | None = None, **options: Any) -> Any:
    model = f"quire/{module}" if module else "quire"
    return client.chat.completions.create(model=model, messages=QUESTION, max_tokens=2, **options)


SEEN = {
    "ann": ["company", "contracts", "notes", "prices"],
    "bob": ["company", "prices"],
    "publisher": ["company", "prices"],
    "auditor": [],
    "globex": ["company", "plans", "salaries"],
    "operator": sorted(MODULES),
}


@pytest.mark.parametrize("who", SEEN)
def test_each_sees_its_own(openai_as: Any, call: Any, who: str) -> None:
    client = openai_as(who)
    assert [m.id for m in client.models.list()][2:] == [f"quire/{name}" for name in SEEN[who]]
    assert [m["module"] for m in call(who, "GET", "/v1/modules").json()["data"]] == SEEN[who]
    for name in MODULES:
        seen = name in SEEN[who]
        assert call(who, "GET", f"/v1/modules/{name}").status_code == (200 if seen else 404)
        if seen:
            assert ask(client, name).quire["module"] == name
        else:
            with pytest.raises(NotFoundError, match="no module named"):
                ask(client, name)


def test_rules_lead_each_tenant_to_its_own_module(openai_as: Any) -> None:
    assert ask(openai_as("bob")).quire["module"] == "prices"
    assert ask(openai_as("globex")).quire["module"] == "plans"


def test_a_stream_and_a_completion_are_checked_too(openai_as: Any) -> None:
    with pytest.raises(NotFoundError):
        ask(openai_as("bob"), "plans", stream=True)
    with pytest.raises(NotFoundError):
        openai_as("bob").completions.create(model="quire/plans", prompt="A bolt", max_tokens=2)
    with pytest.raises(NotFoundError):
        ask(openai_as("bob"), extra_body={"quire": {"module": "plans"}})


@pytest.mark.parametrize("credential", ["unused", "quire_" + "a" * 12 + "_" + "b" * 43, "a.b.c", "quire_x"])
def test_nothing_is_told_without_a_credential_that_holds(
    tenants_server: Server, credential: str, tenants: TwoTenants
) -> None:
    paths = [(one.method, one.path) for one in ENDPOINTS]
    assert len(paths) >= 15
    for method, path in paths:
        path = path.replace("{name}", "prices").replace("{model:path}", "quire/prices").replace("{key_id}", "x")
        for headers in ({"authorization": f"Bearer {credential}"}, {"authorization": "Basic Og=="}, {}):
            response = (
                tenants_server.get(path, headers=headers)
                if method == "GET"
                else tenants_server.post(path, headers=headers)
            )
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer"), path
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert not [name for name in MODULES if name in response.text]
    with (
        OpenAI(base_url=f"{tenants_server.url}/v1", api_key=credential, max_retries=0) as client,
        pytest.raises(AuthenticationError),
    ):
        client.models.list()


def test_two_credentials_at_once_are_none(tenants_server: Server, tenants: TwoTenants) -> None:
    both = [("authorization", f"Bearer {tenants.keys[who]}") for who in ("bob", "eve")]
    assert tenants_server.get("/v1/whoami", headers=both[:1]).status_code == 200
    assert tenants_server.get("/v1/whoami", headers=both).status_code == 401


def test_whether_the_server_is_up_anybody_may_ask(tenants_server: Server) -> None:
    assert tenants_server.get("/healthz").json() == {"status": "ok"}
    assert tenants_server.get("/readyz").json()["status"] == "ready"


def everything_about(name: str) -> list[tuple[str, str, Any]]:
    """Every request that can name a module."""
    chat = {"messages": QUESTION, "max_tokens": 2}
    change = {"reason": "mischief", "version": "0" * 12}
    return [
        ("GET", f"/v1/modules/{name}", None),
        ("GET", f"/v1/modules/{name}@{'0' * 12}", None),
        ("GET", f"/v1/models/quire/{name}", None),
        ("POST", "/v1/chat/completions", {"model": f"quire/{name}", **chat}),
        ("POST", "/v1/chat/completions", {"model": "quire", "quire": {"module": name}, **chat}),
        ("POST", "/v1/chat/completions", {"model": "quire", "quire": {"module": f"{name}@0"}, **chat}),
        ("POST", "/v1/chat/completions", {"model": f"quire/{name}", "stream": True, **chat}),
        ("POST", "/v1/chat/completions", {"model": f"quire/{name}", "n": 2, **chat}),
        ("POST", "/v1/completions", {"model": f"quire/{name}", "prompt": "x", "max_tokens": 2}),
        ("POST", "/v1/routes/explain", {"question": "x", "quire": {"module": name}}),
        ("POST", f"/v1/admin/modules/{name}/publish", change),
        ("POST", f"/v1/admin/modules/{name}/rollback", change),
        ("POST", f"/v1/admin/modules/{name}/retire", {"reason": "mischief"}),
    ]


@pytest.mark.parametrize("who", ["bob", "publisher", "eve", "auditor", "monitor"])
@pytest.mark.parametrize("hidden", HIDDEN_FROM_BOB)
def test_a_hidden_module_answers_as_one_that_does_not_exist(call: Any, who: str, hidden: str) -> None:
    """Status, body and headers, byte for byte, but for the name that was sent."""
    missing = "x" * len(hidden)
    for about_hidden, about_missing in zip(everything_about(hidden), everything_about(missing), strict=True):
        said = []
        for name, request in ((hidden, about_hidden), (missing, about_missing)):
            response = call(who, *request)
            assert response.status_code in {403, 404}, request
            headers = {k: v for k, v in response.headers.items() if k not in {"x-request-id", "date"}}
            said.append((response.status_code, response.content.replace(name.encode(), b"NAME"), headers))
        assert said[0] == said[1], about_hidden


def test_the_world_of_a_tenant_is_the_same_without_the_others(
    tmp_path: Path, tiny_model_dir: Path, tenants: TwoTenants, call: Any
) -> None:
    """Lists, errors and explanations as on a server on which nothing hidden exists, such as no route for a word."""
    alone = build(tmp_path / "alone", tiny_model_dir, without=HIDDEN_FROM_BOB)
    requests: list[tuple[str, str, Any]] = [
        ("GET", "/v1/models", None),
        ("GET", "/v1/modules", None),
        ("GET", "/v1/modules/prices", None),
        ("GET", "/v1/modules/company", None),
        ("GET", "/v1/modules/price", None),
        ("GET", "/v1/whoami", None),
        *(("POST", "/v1/routes/explain", {"question": text}) for text in ASKED),
        *everything_about("plans"),
    ]

    def told(response: httpx.Response) -> Any:
        return response.status_code, without_times(response.json())

    here = [told(call("bob", *request)) for request in requests]
    with Server(alone.root, **SETTINGS) as server:
        headers = {"authorization": f"Bearer {alone.keys['bob']}"}
        for request, seen in zip(requests, here, strict=True):
            method, path, body = request
            response = (
                server.get(path, headers=headers) if method == "GET" else server.post(path, headers=headers, json=body)
            )
            assert told(response) == seen, request


ASKED = (
    *("What does a bolt cost?", "Is there a plan?", "What is a salary?", "Does Ann like nuts?"),  # by words of rules
    *("How much do we pay for fasteners?", "When will the takeover be?", "And the directors?"),  # by examples
    *("Whom does it sell to, boat builders?", "How many pounds does the board earn?", "Xyzzy!"),  # by text, or not
)


def without_times(value: Any) -> Any:
    """A body without what differs between two servers or two builds anyway."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in {"created", "created_at", "key"}}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def test_what_was_refused_is_on_record(tenants: TwoTenants, call: Any) -> None:
    call("bob", "GET", "/v1/modules/salaries")
    call("bob", "GET", "/v1/modules/nonsuch")
    call("bob", "GET", "/v1/admin/keys")
    change = {"version": "0" * 12, "reason": "mischief"}
    call("bob", "POST", "/v1/admin/modules/company/publish", change)  # no role for that
    for name in ("plans", "nonsuch"):
        call("publisher", "POST", f"/v1/admin/modules/{name}/revoke", change)  # another tenant's, and none
    call("forged", "GET", "/v1/models")

    def recorded() -> list[tuple[str, str, str, str]]:
        with open_project(tenants.root) as beside:
            records = beside.registry.audit.newest(AuditFilter(kinds=("access",)), 10_000)
        return [(r.kind, r.who.split(":")[0], r.tenant, r.what) for r in records]

    wanted = {
        ("access.denied", "acme/bob", "acme", "read salaries"),
        ("access.denied", "acme/bob", "acme", "read nonsuch"),
        ("access.denied", "acme/bob", "acme", "keys tenant:acme"),
        ("access.denied", "acme/bob", "acme", "publish company"),
        ("access.denied", "acme/key", "acme", "publish plans"),
        ("access.denied", "acme/key", "acme", "publish nonsuch"),
        ("access.unauthenticated", "nobody", "", "token"),
    }
    assert eventually(lambda: wanted <= set(recorded()))


def test_a_hidden_module_takes_the_time_of_a_missing_one(call: Any) -> None:
    """Requests in random order, so that the machine's moods strike both alike; medians of each kind."""
    draw = random.Random(7)
    hidden, missing = everything_about("plans"), everything_about("xxxxx")
    for number in (0, 2, 3, 9):
        pair = (hidden[number], missing[number])
        times: list[list[float]] = [[], []]
        for _ in range(60):
            for which in draw.sample((0, 1), 2):
                began = time.perf_counter()
                assert call("bob", *pair[which]).status_code == 404
                times[which].append(time.perf_counter() - began)
        medians = [statistics.median(taken) for taken in times]
        noise = statistics.median(abs(t - medians[1]) for t in times[1])
        assert abs(medians[0] - medians[1]) < max(0.1 * medians[1], noise), (pair[0], medians, noise)


def test_metrics_name_no_module_and_are_not_for_everybody(
    tenants_server: Server, tenants: TwoTenants, call: Any
) -> None:
    for who in ("ann", "publisher", "auditor", "eve", "globex admin"):
        response = call(who, "GET", "/metrics")
        assert (response.status_code, response.json()["error"]["code"]) == (403, "access_denied")
    for who in ("monitor", "operator"):
        response = call(who, "GET", "/metrics")
        assert response.status_code == 200
        assert not [name for name in MODULES if f'"{name}' in response.text or f"/{name}" in response.text]
        assert "acme" not in response.text
        assert "globex" not in response.text


def test_a_session_is_its_principals(openai_as: Any) -> None:
    def cached(who: str, session: str) -> int:
        answer = ask(openai_as(who), "company", extra_body={"quire": {"session": session}})
        return int(answer.usage.prompt_tokens_details.cached_tokens)

    fresh = cached("bob", "one")
    assert cached("bob", "one") > fresh
    for who in ("ann", "globex", "publisher"):
        assert cached(who, "one") == fresh
    assert cached("bob", "one") > fresh


def test_a_token_is_as_good_as_a_key(openai_as: Any, call: Any) -> None:
    for key, kid in ((rsa_key(), "k1"), (ec_key(), "k2")):
        signed = token(key, kid, sub="ann", workspaces=["legal"])
        assert call(signed, "GET", "/v1/whoami").json() == {
            "object": "principal",
            "tenant": "acme",
            "user": "ann",
            "workspaces": ["legal"],
            "roles": ["reader"],
            "key": None,
            "reads": ["public", "tenant:acme", "user:acme/ann", "workspace:acme/legal"],
        }
        client = openai_as(signed)
        assert ask(client, "notes").quire["module"] == "notes"
        with pytest.raises(NotFoundError):
            ask(client, "plans")
    with pytest.raises(AuthenticationError, match="expired"):
        openai_as(token(exp=int(time.time()) - 100)).models.list()
    with pytest.raises(AuthenticationError, match="Signature verification failed"):
        openai_as(token(rsa_key(1), "k1")).models.list()


def test_the_issuers_keys_may_change_while_the_server_runs(tenants: TwoTenants, tmp_path: Path) -> None:
    jwks = tmp_path / "keys.json"
    settings = {**SETTINGS, "access.keys": False, "access.jwks": jwks, "access.jwks_retry_seconds": 0}
    with Server(tenants.root, **settings) as server:

        def status(credential: str) -> int:
            return server.get("/v1/models", headers={"authorization": f"Bearer {credential}"}).status_code

        old, new = token(), token(rsa_key(1), "k7")
        assert status(old) == 503
        jwks.write_bytes(key_set(public(rsa_key(), "k1")))
        assert [status(old), status(new), status(tenants.keys["bob"])] == [200, 401, 401]
        jwks.write_bytes(key_set(public(rsa_key(1), "k7")))
        assert [status(new), status(old)] == [200, 401]


def test_a_revoked_key_opens_nothing_from_the_next_request_on(tenants: TwoTenants, call: Any) -> None:
    with open_project(tenants.root) as beside:
        record, key = beside.access.keys.create(LOCAL, "brief", tenant="acme")
        assert call(key, "GET", "/v1/models").status_code == 200
        beside.access.keys.revoke(LOCAL, record.key_id, "lost")
        response = call(key, "GET", "/v1/models")
    assert (response.status_code, "revoked" in response.json()["error"]["message"]) == (401, True)


def test_an_administrator_makes_keys_and_revokes_them(call: Any, openai_as: Any) -> None:
    body = {"title": "CI", "user": "ann", "workspaces": ["legal"], "roles": ["reader"], "expires_in_days": 30}
    made = call("eve", "POST", "/v1/admin/keys", body)
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    key, key_id = made.json()["key"], made.json()["id"]
    assert ask(openai_as(key), "contracts").quire["module"] == "contracts"
    shown = call("eve", "GET", f"/v1/admin/keys/{key_id}")
    assert shown.json() == {k: v for k, v in made.json().items() if k != "key"}
    assert key not in shown.text + call("eve", "GET", "/v1/admin/keys").text
    assert {k["tenant"] for k in call("eve", "GET", "/v1/admin/keys").json()["data"]} == {"acme"}
    revoked = call("eve", "POST", f"/v1/admin/keys/{key_id}/revoke", {"reason": "done"})
    assert revoked.json()["state"] == "revoked"
    with pytest.raises(AuthenticationError):
        openai_as(key).models.list()


def test_two_servers_know_the_same_keys(tenants: TwoTenants, call: Any) -> None:
    with Server(tenants.root, **SETTINGS) as other:
        made = call("eve", "POST", "/v1/admin/keys", {"title": "for both"}).json()
        headers = {"authorization": f"Bearer {made['key']}"}
        assert other.get("/v1/models", headers=headers).status_code == 200
        by_eve = {"authorization": f"Bearer {tenants.keys['eve']}"}
        revoked = other.post(f"/v1/admin/keys/{made['id']}/revoke", headers=by_eve, json={"reason": "done"})
        assert revoked.status_code == 200
        assert call(made["key"], "GET", "/v1/models").status_code == 401
        other.terminate()
        assert other.end()[0] == 0
    shown = call("eve", "GET", f"/v1/admin/keys/{made['id']}").json()
    assert shown["created_at"] < shown["last_used_at"] < shown["revoked_at"], "written when the other server ended"


def test_what_an_administrator_may_not(call: Any) -> None:
    foreign = call("operator", "POST", "/v1/admin/keys", {"title": "theirs", "tenant": "globex"}).json()["id"]
    refusals = [
        call("eve", "POST", f"/v1/admin/keys/{key_id}/revoke", {"reason": "x"}) for key_id in (foreign, "y" * 12)
    ]
    assert [r.status_code for r in refusals] == [404, 404]
    assert refusals[0].text.replace(foreign, "y" * 12) == refusals[1].text
    for body in ({"title": "x", "tenant": "globex"}, {"title": "x", "roles": ["operator"]}):
        assert call("eve", "POST", "/v1/admin/keys", body).status_code == 403
    for who in ("ann", "publisher", "auditor", "monitor"):
        for request in (("GET", "/v1/admin/keys"), ("POST", "/v1/admin/keys", {"title": "x"})):
            assert call(who, *request).status_code == 403
    for blank in ("", " \t", "\u001c", "\u3000", "x" * 501):
        assert call("operator", "POST", f"/v1/admin/keys/{foreign}/revoke", {"reason": blank}).status_code == 400
    for wrong in ({"title": ""}, {"title": "x", "roles": ["king"]}, {"title": "x", "tenant": "No"}, {"title": 7}):
        assert call("operator", "POST", "/v1/admin/keys", wrong).status_code == 400


def test_a_publisher_changes_what_is_its_tenants(call: Any) -> None:
    version = call("publisher", "GET", "/v1/modules/prices").json()["version"]
    why = {"reason": "wrong price", "version": version}
    try:
        assert call("ann", "POST", "/v1/admin/modules/prices/retire", why | {}).status_code == 400  # an extra field
        assert call("ann", "POST", "/v1/admin/modules/prices/retire", {"reason": "x"}).status_code == 403
        retired = call("publisher", "POST", "/v1/admin/modules/prices/retire", {"reason": "wrong price"})
        assert (retired.status_code, retired.json()["state"]) == (200, "retired")
        assert call("bob", "GET", "/v1/modules/prices").status_code == 404
    finally:
        published = call("publisher", "POST", "/v1/admin/modules/prices/publish", why)
    assert (published.status_code, published.json()["state"]) == (200, "live")
    assert call("publisher", "POST", "/v1/admin/modules/company/retire", {"reason": "x"}).status_code == 403


def test_a_version_that_a_publisher_may_not_see_stays_live(tmp_path: Path, tiny_model_dir: Path) -> None:
    """The newest version of a module has been moved out of the publisher's reach; the older one is still within it."""
    own = build(tmp_path / "project", tiny_model_dir)
    with open_project(own.root) as project:
        old = project.registry.live("prices").version
    declared = own.root / "quire.toml"
    declared.write_text(declared.read_text().replace('acl = "tenant:acme"', 'acl = "workspace:acme/board"'))
    with open_project(own.root) as project:
        project.build()
        new = project.registry.live("prices")
        assert (str(new.scope), new.version == old) == ("workspace:acme/board", False)
    headers = {"authorization": f"Bearer {own.keys['publisher']}"}
    with Server(own.root, **SETTINGS) as server:
        change = {"reason": "mischief", "version": old}
        for what in ("publish", "rollback"):
            response = server.post(f"/v1/admin/modules/prices/{what}", headers=headers, json=change)
            assert (response.status_code, response.json()["error"]["code"]) == (404, "module_unknown")
            assert new.version not in response.text
    with open_project(own.root) as project:
        assert project.registry.live("prices") == new


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_beyond_loopback_the_server_asks_or_does_not_start(tenants: TwoTenants, host: str) -> None:
    with open_project(tenants.root) as project, pytest.raises(InvalidSetting, match="other machines can reach"):
        serve(project, host=host, port=0)


def test_settings_that_do_not_fit_together(tenants: TwoTenants, monkeypatch: pytest.MonkeyPatch) -> None:
    for values, why in (
        ({"ISSUER": "https://issuer.example/"}, r"found no access\.audience and no access\.jwks"),
        ({"ISSUER": "i", "AUDIENCE": "a", "JWKS": "http://issuer.example/keys"}, "must be a file, or an https://"),
        ({"ISSUER": "i", "AUDIENCE": "a", "JWKS": "ftp://issuer.example/keys"}, "must be a file, or an https://"),
        ({"ISSUER": "i", "AUDIENCE": "a", "JWKS": "keys", "ROLES": "king"}, r"access\.roles"),
    ):
        with monkeypatch.context() as patch:
            for name, value in values.items():
                patch.setenv(f"QUIRE_ACCESS_{name}", value)
            with open_project(tenants.root) as project, pytest.raises(InvalidSetting, match=why):
                serve(project, port=0)
