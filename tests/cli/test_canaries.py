"""A canary from the command line."""

from __future__ import annotations

from pathlib import Path

from .conftest import Quire


def test_a_canary_from_beginning_to_end(quire: Quire, shop: Path) -> None:
    here = ("--project", shop)
    (shop / "knowledge" / "prices.md").write_text("A bolt costs 4 pounds. " * 8)
    built = quire("build", "--no-publish", *here, "--json").json
    assert built["published"] == []
    (compiled,) = built["compiled"]
    candidate = f"prices@{compiled['version']}"
    assert quire("canary", "show", "prices", *here).code == 8
    for nobody_or_too_many in ("0", "101"):
        assert quire("publish", candidate, "--canary", nobody_or_too_many, *here).code == 2
    assert quire("show", candidate, *here, "--json").json["state"] == "candidate"
    begun = quire("publish", candidate, "--canary", "20", "--shadow", *here)
    assert f"{candidate} takes 20 % of the requests and every question in the shadow" in begun.out
    (running,) = quire("canary", "ls", *here, "--json").json["canaries"]
    assert (running["module"], running["version"], running["percent"]) == ("prices", compiled["version"], 20)
    for number in range(4):
        said = quire("ask", f"What is {number}?", "-m", "prices", "--max-tokens", 2, *here, "--json").json
        assert said["quire"]["arm"] in {"live", "candidate"}
    shown = quire("canary", "show", "prices", *here, "--json").json
    assert sum(shown["arms"][arm]["requests"] for arm in ("live", "candidate")) == 4
    assert "answered by" in quire("canary", "show", "prices", *here).out
    assert quire("canary", "promote", "prices", *here).code == 0
    assert quire("show", "prices", *here, "--json").json["version"] == compiled["version"]
    assert quire("canary", "stop", "prices", *here).code == 8
    assert quire("canary", "ls", *here, "--json").json["canaries"] == []
    (ended,) = quire("canary", "ls", "--all", *here, "--json").json["canaries"]
    assert "is live: promoted by hand" in ended["ended"]


def test_a_revoked_version_and_what_stood_on_it(quire: Quire, shop: Path) -> None:
    here = ("--project", shop)
    assert quire("revoke", "company", *here).code == 2
    version = quire("show", "company", *here, "--json").json["version"]
    revoked = quire("revoke", f"company@{version}", "--reason", "it names a client", *here)
    assert "with it, since they were compiled after it: prices@" in revoked.out
    assert {row["state"] for row in quire("ls", *here, "--json").json["modules"]} == {"revoked"}
    assert "revoked already" in quire("revoke", f"company@{version}", *here).out
    assert quire("ask", "What?", "-m", "prices", *here).code == 8
    built = quire("build", *here)
    assert built.code == 0
    assert "company is left out" in built.err
    assert "prices is left out" in built.err
    assert "withheld 3" in built.out
    built = quire("build", "prices", *here)
    assert built.code == 8
    assert "is revoked: change its sources or layout" in built.err
    assert quire("fsck", *here).code == 0
