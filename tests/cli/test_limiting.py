"""`quire limits`: what is allowed and what was used."""

from __future__ import annotations

from quire.cli.opening import open_catalogue
from quire.limits.monthly import utc_now

from .conftest import MakeProject, Quire


def test_limits_and_use_are_shown_by_tenant(quire: Quire, project: MakeProject) -> None:
    root = project({"prices": "A bolt costs 3 pounds."})
    with (root / "quire.toml").open("a", encoding="utf-8") as file:
        file.write("[limits.default]\nrequests_per_minute = 1300\n[limits.tenants.acme]\npriority = 'high'\n")
    month = f"{utc_now():%Y-%m}"
    with open_catalogue(root) as catalogue:
        catalogue.registry.use.add({(month, "acme"): 7000, (month, "globex"): 5, ("2001-01", "old"): 5})
    shown = quire("limits", "--json", "--project", root).json
    assert shown["month"] == month
    assert [(t["tenant"], t["used"], t["requests_per_minute"], t["priority"]) for t in shown["tenants"]] == [
        ("acme", 7000, 1300, "high"),
        ("globex", 5, 1300, "normal"),
    ]
    people = quire("limits", "--project", root).out
    assert all(said in people for said in ("acme", "7,000", "1,300", "any other"))
