"""Golden tests on the command line: what is red does not go live, and says why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from quire import open_project
from quire.compiler import run_build
from quire.errors import GoldenNotRun
from quire.project import Silent

from .conftest import MakeProject, Quire

SOURCES = {
    "company": "Norrvik Fasteners sells bolts and nuts to boat builders. " * 4,
    "prices": "A bolt costs 3 pounds. A nut costs 1 pound. " * 4,
    "shipping": "Parcels leave Norrvik at noon and arrive on the third day. " * 4,
}
PARENTS = {"prices": "company"}


def expect(root: Path, module: str, *answers: str, asked: str = "What?") -> None:
    """Let the module's golden file want these answers, to the same question."""
    (root / "golden").mkdir(exist_ok=True)
    entries = [{"question": asked, "exact": answer, "max_tokens": 8, "tags": ["short"]} for answer in answers]
    (root / "golden" / f"{module}.yaml").write_text(json.dumps(entries))


def answer(root: Path, module: str) -> str:
    with open_project(root) as project:
        return project.ask("What?", module=module, max_tokens=8).text().strip()


@pytest.fixture(scope="session")
def tested_shop(tmp_path_factory: pytest.TempPathFactory, write_project: MakeProject) -> Path:
    """Three modules live, two of them with golden tests that their answers pass."""
    root: Path = write_project(tmp_path_factory.mktemp("tested") / "shop", SOURCES, parents=PARENTS)
    with open_project(root) as project:
        project.build()
    for name in ("company", "prices"):
        expect(root, name, answer(root, name))
    with open_project(root) as project:
        assert [run.green for run in project.build().tested] == [True, True]
    return root


@pytest.fixture
def shop(tested_shop: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tested_shop, tmp_path / "shop"))


def rewrite(root: Path, write_project: MakeProject, **changed: str) -> None:
    write_project(root, {**SOURCES, **changed}, parents=PARENTS)


def live(quire: Quire, root: Path) -> dict[str, str]:
    rows = quire("ls", "--project", root, "--json").json["modules"]
    return {row["module"]: row["version"] for row in rows if row["state"] == "live"}


def test_a_fact_that_is_changed_wrongly_does_not_go_live_and_everything_else_does(
    quire: Quire, shop: Path, write_project: MakeProject
) -> None:
    before, here = live(quire, shop), ("--project", shop)
    rewrite(shop, write_project, prices="A bolt costs 900 pounds. " * 7, shipping="Parcels leave at dawn. " * 9)
    built = quire("build", *here, "--json")
    assert built.code == 14
    error = json.loads(built.err.strip().splitlines()[-1])["error"]
    assert (error["code"], error["exit_code"]) == ("golden_failed", 14)
    assert "withheld: prices" in error["message"]
    value = built.json
    assert [row["module"] for row in value["published"]] == ["shipping"]
    assert list(value["withheld"]) == ["prices"]
    (run,) = value["tested"]
    assert (run["module"], run["green"], run["questions"], run["failed"]) == ("prices", False, 1, 1)
    (verdict,) = run["verdicts"]
    assert verdict["unmet"] == [f"is {answer(shop, 'prices')!r}"]
    after = live(quire, shop)
    assert after["prices"] == before["prices"]
    assert after["shipping"] != before["shipping"]
    wrong = f"prices@{run['version']}"
    refused = quire("publish", wrong, *here)
    assert refused.code == 14
    assert "1 of 1 golden tests failed: 'What?'" in refused.err
    shown = quire("show", wrong, *here, "--json").json
    assert shown["golden"]["run"]["verdicts"] == run["verdicts"]
    assert shown["history"][0]["action"] == "test"
    assert "red: 0 of 1 passed" in quire("show", wrong, *here).out
    again = quire("build", *here)
    assert again.code == 14
    assert live(quire, shop) == after
    assert quire("fsck", *here).code == 0


def test_what_stands_on_a_red_version_does_not_go_live_either(
    quire: Quire, shop: Path, write_project: MakeProject
) -> None:
    before = live(quire, shop)
    rewrite(shop, write_project, company="Norrvik Fasteners sells anchors. " * 6)
    (shop / "golden" / "prices.yaml").unlink()
    built = quire("build", "--project", shop, "--json")
    assert built.code == 14
    assert built.json["withheld"]["prices"] == "its parent company did not go live"
    assert live(quire, shop) == before


def test_a_live_version_that_fails_new_tests_serves_on_and_is_reported(quire: Quire, shop: Path) -> None:
    before, here = live(quire, shop), ("--project", shop)
    expect(shop, "prices", "something else")
    built = quire("build", *here)
    assert built.code == 14
    assert "error: prices@" in built.err
    assert live(quire, shop) == before
    golden = quire("show", "prices", *here, "--json").json["golden"]
    assert golden["run"]["green"], "it is judged by what it passed before it went live"


def test_publish_asks_what_was_not_asked(quire: Quire, shop: Path, write_project: MakeProject) -> None:
    here, old = ("--project", shop), live(quire, shop)["prices"]
    rewrite(shop, write_project, prices="A bolt costs 4 pounds. " * 7)
    with open_project(shop) as project:
        plans = project.plan(["prices"])
        with pytest.raises(GoldenNotRun):  # as if it had been interrupted before the tests
            run_build(plans, lambda: project.model, project.registry, project.store, Silent(), actor="test")
    new = f"prices@{plans[-1].version}"
    refused = quire("publish", new, *here)
    assert refused.code == 14
    assert "expected: is" in refused.err
    assert live(quire, shop)["prices"] == old
    (shop / "golden" / "prices.yaml").unlink()
    assert quire("build", *here).code == 0
    expect(shop, "prices", answer(shop, "prices"))
    assert quire("rollback", "prices", *here).code == 0
    assert quire("test", new, *here).code == 0
    assert quire("publish", new, *here).code == 0


def test_the_command_test(quire: Quire, shop: Path) -> None:
    here = ("--project", shop)
    whole = quire("test", *here, "--json")
    assert whole.code == 0
    assert whole.json["routes"] is None
    assert [(run["module"], run["green"]) for run in whole.json["modules"]] == [("company", True), ("prices", True)]
    right = answer(shop, "prices")
    expect(shop, "prices", right, "wrong", "wrong too")
    one = quire("test", "prices", *here)
    assert one.code == 14
    assert "2 of 3 golden tests failed" in one.err
    tagged = quire("test", "--tag", "short", *here, "--json")
    assert tagged.code == 14
    assert quire("test", "--tag", "long", *here).code == 2
    assert quire("test", "shipping", *here).code == 2
    allowed = {"allowed_failures": 2, "questions": json.loads((shop / "golden" / "prices.yaml").read_text())}
    (shop / "golden" / "prices.yaml").write_text(json.dumps(allowed))
    forgiven = quire("test", "prices", *here)
    assert forgiven.code == 0
    assert "allowed" in forgiven.out
    (shop / "golden" / "prices.yaml").write_text("- {question: x}")
    assert quire("test", *here).code == 2
    assert quire("build", *here).code == 2


def test_rollback_goes_to_what_was_green(quire: Quire, shop: Path, write_project: MakeProject) -> None:
    here, old = ("--project", shop), live(quire, shop)
    rewrite(shop, write_project, prices="A bolt costs 4 pounds. " * 7)
    (shop / "golden" / "prices.yaml").unlink()
    assert quire("build", *here).code == 0
    assert live(quire, shop)["prices"] != old["prices"]
    assert quire("rollback", "prices", *here).code == 0
    assert live(quire, shop) == old
    log = quire("audit", "--kind", "module.test", *here, "--json").json["records"]
    assert {record["details"]["green"] for record in log} == {True}


def test_what_is_compiled_without_the_project_passes_the_modules_tests_too(
    quire: Quire, shop: Path, tmp_path: Path, tiny_model_dir: Path
) -> None:
    before = live(quire, shop)
    wrong = tmp_path / "wrong.md"
    wrong.write_text("A bolt costs 900 pounds. " * 7)
    command = ("compile", "--model", tiny_model_dir, "--threads", 1, "--source", wrong, "--out", shop / ".quire")
    refused = quire(*command, "--name", "prices", "--parent", "company")
    assert refused.code == 14
    assert "1 of 1 golden tests failed" in refused.err
    assert live(quire, shop) == before
    again = quire(*command, "--name", "prices", "--parent", "company", "--title", "Other prices")
    assert again.code == 14, "nor by its KV under another version"
    assert live(quire, shop) == before
    others = quire(*command, "--acl", "tenant:acme:shipping")
    assert (others.code, "for the tenant 'local'" in others.err) == (2, True)
    assert live(quire, shop) == before


def test_status_counts_what_has_not_passed_its_golden_tests_as_they_are_now(quire: Quire, shop: Path) -> None:
    here = ("--project", shop)

    def state() -> tuple[str, list[dict[str, str]]]:
        rows = {row["module"]: row for row in quire("status", *here, "--json").json["modules"]}
        return rows["prices"]["state"], rows["prices"]["reasons"]

    assert (state(), quire("status", "--check", *here).code) == (("current", []), 0)
    right = answer(shop, "prices")
    expect(shop, "prices", "something else")
    (unasked,) = state()[1]
    assert (unasked["trigger"], "not asked" in unasked["text"]) == ("golden", True)
    checked = quire("status", "--check", *here)
    assert (checked.code, "not asked its golden tests" in checked.out, "prices" in checked.err) == (15, True, True)
    assert quire("build", *here).code == 14
    name, (failed,) = state()
    assert (name, "1 of 1 golden tests failed" in failed["text"]) == ("untested", True)
    assert quire("status", "--check", *here).code == 15
    (shop / "golden" / "prices.yaml").write_text("- {question: x}")
    assert "do not read" in state()[1][0]["text"]
    expect(shop, "prices", right)
    assert quire("status", "--check", *here).code == 0, "what it passed is what it is to pass again"
    with open_project(shop) as project:
        assert project.mark() == [], "no mark: it serves on"
