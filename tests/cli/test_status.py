"""`quire status`: stale or not, why, what it drags along, what it costs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from quire import open_project
from quire.router import RouteTable

from .conftest import MakeProject, Quire


@pytest.fixture
def root(built_shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("QUIRE_MODEL_THREADS", raising=False)
    return Path(shutil.copytree(built_shop, tmp_path / "shop"))


def by_name(value: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["module"]: row for row in value["modules"]}


def test_what_is_current_costs_nothing(root: Path, quire: Quire) -> None:
    done = quire("status", "--json", "--project", root)
    assert done.code == 0
    assert {row["state"] for row in done.json["modules"]} == {"current"}
    assert done.json["rebuild"] == {"tokens": 0, "bytes": 0, "seconds": 0.0}
    assert quire("status", "--check", "--project", root).code == 0
    assert "all 3 modules are up to date" in quire("status", "--project", root).out


def test_routes_that_are_declared_otherwise_are_shown(root: Path, quire: Quire) -> None:
    """A changed keyword makes no module stale, and no build of one necessary."""
    settings = root / "quire.toml"
    settings.write_text(settings.read_text() + '[modules.shipping.route]\nkeywords = ["parcel"]\n')
    done = quire("status", "--json", "--project", root)
    assert {row["state"] for row in done.json["modules"]} == {"current"}
    assert done.json["routes"] == [{"module": "shipping", "name": "keywords", "in_force": [], "declared": ["parcel"]}]
    assert "shipping: keywords +'parcel'" in quire("status", "--project", root).out
    checked = quire("status", "--check", "--json", "--project", root)
    assert checked.code == 15
    assert quire("route", "build", "--project", root).code == 0
    assert quire("status", "--check", "--project", root).code == 0


def test_a_checkout_that_built_nothing_of_it_is_told_so(root: Path, quire: Quire) -> None:
    """Stale it is here as well; but servers of this checkout do not mark it."""
    (root / "knowledge" / "prices.md").write_text("A bolt costs 4 pounds.")
    assert not by_name(quire("status", "--json", "--project", root).json)["prices"]["built_elsewhere"]
    (root / ".quire" / "checkout.json").unlink()  # as in a fresh clone
    rows = by_name(quire("status", "--json", "--project", root).json)
    assert {name for name, row in rows.items() if row["built_elsewhere"]} == {"prices"}
    assert rows["prices"]["state"] == "stale"
    said = quire("status", "--project", root).out
    assert "not built from this checkout, whose servers do not mark them: prices" in said


def test_a_stale_module_is_shown_with_its_children_and_the_cost(root: Path, quire: Quire) -> None:
    (root / "knowledge" / "company.md").write_text("Norrvik sells nuts.")
    unknown = quire("status", "--json", "--project", root).json
    rows = by_name(unknown)
    assert [row["state"] for row in rows.values()] == ["stale"] * 3
    assert rows["company"]["drags"] == ["prices", "shipping"]
    (reason,) = rows["company"]["reasons"]
    assert reason["trigger"] == "source"
    assert reason["expected"] != reason["found"]
    with open_project(root) as project:
        plans = {plan.spec.module_id: plan for plan in project.plan()}
        per_token = project.source.facts.geometry.bytes_per_token
    for name, plan in plans.items():
        cost = rows[name]["rebuild"]
        assert cost == {
            "action": "compile",
            "reasons": [str(reason) for reason in plan.reasons],
            "tokens": len(plan.token_ids),
            "bytes": len(plan.token_ids) * per_token,
            "seconds": None,
        }
    assert unknown["rebuild"]["seconds"] is None, "nothing was built here by the command line yet"
    assert "time unknown" in quire("status", "--project", root).out
    checked = quire("status", "--check", "--json", "--project", root)
    assert checked.code == 15
    assert json.loads(checked.err)["error"]["code"] == "modules_outdated"


def test_the_speed_of_the_last_build_is_what_seconds_go_by(project: MakeProject, quire: Quire) -> None:
    root = project({"prices": "A bolt costs 3 pounds. " * 8})
    assert quire("status", "--json", "--project", root).json["modules"][0]["state"] == "missing"
    assert quire("build", "--project", root).code == 0
    (root / "knowledge" / "prices.md").write_text("A bolt costs 4 pounds. " * 8)
    speed = next(iter(json.loads((root / ".quire" / "speed.json").read_text()).values()))
    total = quire("status", "--json", "--project", root).json["rebuild"]
    assert total["seconds"] == pytest.approx(total["tokens"] / speed, abs=1e-3)


def test_sources_that_do_not_read_are_unknown_and_named(root: Path, quire: Quire) -> None:
    (root / "knowledge" / "prices.md").unlink()
    done = quire("status", "--json", "--project", root)
    rows = by_name(done.json)
    assert (rows["prices"]["state"], rows["company"]["state"]) == ("unknown", "current")
    assert "knowledge/prices.md" in rows["prices"]["problem"]
    assert quire("status", "--check", "--project", root).code == 15


def test_a_pattern_that_is_not_linear_is_refused_before_anything_is_compiled(root: Path, quire: Quire) -> None:
    with (root / "quire.toml").open("a") as file:
        file.write("[modules.shipping.route]\npatterns = ['a(?=b)']\n")
    assert quire("route", "ls", "--project", root).code == 0, "what does not build still serves"
    for command in (["build", "--dry-run"], ["build"], ["route", "build"]):
        done = quire(*command, "--project", root)
        assert done.code == 2
        assert "looks ahead" in done.err
        assert "several expressions" in done.err


def test_a_pattern_of_the_table_in_force_that_is_refused_by_now_is_shown(root: Path, quire: Quire) -> None:
    with (root / "quire.toml").open("a") as file:
        file.write("[modules.shipping.route]\nkeywords = ['parcel']\n")
    assert quire("route", "build", "--project", root).code == 0
    with open_project(root) as project:
        version = project.registry.routes.in_force()
        assert version is not None
        table = RouteTable.parse(version.document, version.weights)
        modules = [
            replace(m, route=replace(m.route, patterns=("a(?!b)",))) if m.route.keywords else m for m in table.modules
        ]
        old = RouteTable(tuple(modules), table.stages, table.outside, table.weights)
        project.registry.routes.put(old.draft, actor="ann", reason="before")
    done = quire("status", "--json", "--project", root)
    assert done.json["unusable"] == ["a pattern of shipping: 'a(?!b)': it looks ahead or behind: (?!"]
    assert "it looks ahead or behind: (?! (left out)" in " ".join(quire("status", "--project", root).out.split())
    assert "are left out" in quire("status", "--check", "--project", root).err
    explained = quire("route", "explain", "my parcel", "--json", "--project", root).json
    assert (explained["module"], explained["unusable"]) == ("shipping", done.json["unusable"])


def test_what_expires_soon_is_pointed_out_and_what_has_expired_is_not_current(root: Path, quire: Quire) -> None:
    toml = root / "quire.toml"
    toml.write_text(toml.read_text().replace('[modules."prices"]', '[modules."prices"]\nttl = "2d"'))
    assert quire("build", "--project", root).code == 0
    done = quire("status", "--json", "--project", root)
    assert (done.json["expiring"], by_name(done.json)["prices"]["state"]) == (["prices"], "current")
    assert "within a week expire: prices" in quire("status", "--project", root).out
    with open_project(root) as project:
        past = datetime.now(UTC) - timedelta(seconds=1)
        live = project.registry.live("prices")
        project.registry.register(replace(live, expires_at=past), actor="test", reason="time passes")
    done = quire("status", "--json", "--project", root)
    assert (done.json["expiring"], by_name(done.json)["prices"]["state"]) == ([], "expired")
    cost = by_name(done.json)["prices"]["rebuild"]
    assert (cost["action"], cost["tokens"]) == ("renew", 0), "new time costs no prefill"
    assert quire("status", "--check", "--project", root).code == 15
    assert "live, expired" in quire("ls", "--project", root).out
    (root / "knowledge" / "prices.md").write_text("A bolt costs 5 pounds.\n")
    row = by_name(quire("status", "--json", "--project", root).json)["prices"]
    assert (row["state"], row["expired"]) == ("stale", True), "stale modules may answer, an expired one does not"
    assert "expired 20" in " ".join(quire("status", "--project", root).out.split())


def test_a_list_says_what_is_marked(root: Path, quire: Quire) -> None:
    (root / "knowledge" / "prices.md").write_text("A bolt costs 4 pounds.")
    with open_project(root) as project:
        project.mark()
    assert "live, stale" in quire("ls", "--project", root).out
    listed = {row["module"]: row["stale"] for row in quire("ls", "--json", "--project", root).json["modules"]}
    assert listed["company"] is None
    assert [reason["trigger"] for reason in listed["prices"]["reasons"]] == ["source"]


def test_what_was_taken_out_of_service_is_not_called_new(root: Path, quire: Quire) -> None:
    here = ("--project", root)
    version = {row["module"]: row["version"] for row in quire("ls", *here, "--json").json["modules"]}
    assert quire("retire", "shipping", *here).code == 0
    assert quire("revoke", f"prices@{version['prices']}", *here).code == 0
    rows = by_name(quire("status", "--json", *here).json)
    assert [rows[name]["state"] for name in ("company", "prices", "shipping")] == ["current", "missing", "missing"]
    said = quire("status", *here).out
    assert "now retired" in said
    assert "is revoked: change its sources or layout" in said
    assert "never compiled" not in said
    planned = {row["module"]: row["action"] for row in quire("build", "--dry-run", "--json", *here).json["plan"]}
    assert planned == {"company": "current", "prices": "withhold", "shipping": "publish"}
    named = quire("build", "prices", *here)
    assert named.code == 8
    assert "is revoked: change its sources or layout" in named.err
    built = quire("build", *here)
    assert (built.code, built.err.count("prices is left out: prices@")) == (0, 1)
    assert "or take it out of quire.toml" in built.err
    rows = by_name(quire("status", "--json", *here).json)
    assert [rows[name]["state"] for name in ("company", "prices", "shipping")] == ["current", "missing", "current"]
    assert quire("fsck", *here).code == 0
