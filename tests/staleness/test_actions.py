"""Each trigger has its action: what a build computes, what it only writes anew, what is asked again, what goes live."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import train_tokenizer

from quire import open_project
from quire.access import LOCAL
from quire.answering import Question
from quire.registry import Registry
from quire.router import draft_routes

ALL = ["company", "prices", "shipping"]
BEHIND = ["prices", "shipping"]


@dataclass(frozen=True, slots=True)
class Shop:
    """A live shop with golden tests of every module, on a model of its own."""

    root: Path
    model: Path

    def edit(self, old: str, new: str) -> None:
        file = self.root / "quire.toml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, built_shop: Path, tiny_model_dir: Path) -> Path:
    root = Path(shutil.copytree(built_shop, tmp_path_factory.mktemp("actions") / "shop"))
    shutil.copytree(tiny_model_dir, root / "model")
    toml = root / "quire.toml"
    text = toml.read_text().replace(json.dumps(str(tiny_model_dir)), '"model"')
    toml.write_text(text + '[modules.prices.route]\nkeywords = ["bolt"]\n')
    (root / "golden").mkdir()
    for name in ALL:
        (root / "golden" / f"{name}.yaml").write_text("- question: What is it?\n  not_contains: no such words, ever\n")
    with open_project(root) as project:
        assert [run.module_id for run in project.build().tested] == ALL
    return root


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Shop:
    root = Path(shutil.copytree(made, tmp_path / "shop"))
    with open_project(root) as project:
        assert {plan.action for plan in project.plan()} == {"current"}
    return Shop(root, root / "model")


def source_of_the_root(shop: Shop) -> None:
    (shop.root / "knowledge" / "company.md").write_text("Norrvik sells nuts.")


def source_of_a_leaf(shop: Shop) -> None:
    (shop.root / "knowledge" / "prices.md").write_text("A bolt costs 4 pounds.")


def model(shop: Shop) -> None:
    config = shop.model / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "rms_norm_eps": values["rms_norm_eps"] * 2}))


def tokenizer(shop: Shop) -> None:
    train_tokenizer(590).save_pretrained(shop.model)


def acl(shop: Shop) -> None:
    shop.edit('acl = "public"', 'acl = "tenant:local"')


def layout_of_the_static_part(shop: Shop) -> None:
    _layout(shop, "child", "\n\n## {title}\n\n{content}")


def layout_of_the_rest(shop: Shop) -> None:
    _layout(shop, "answer", "\nSo: ")


def _layout(shop: Shop, name: str, text: str) -> None:
    with open_project(shop.root) as project:
        definition = {**project.layout.definition(), "version": "2", name: text}
    (shop.root / "layout.toml").write_text("\n".join(f"{k} = {json.dumps(v)}" for k, v in definition.items()))
    shop.edit("[model]", '[layout]\nfile = "layout.toml"\n[model]')


# Trigger, what is compiled, what is reissued; the rest stays as it is.
TABLE: list[tuple[Callable[[Shop], None], list[str], list[str]]] = [
    (source_of_the_root, ALL, []),
    (source_of_a_leaf, ["prices"], []),
    (model, ALL, []),
    (tokenizer, ALL, []),
    (acl, [], ALL),
    (layout_of_the_static_part, BEHIND, ["company"]),
    (layout_of_the_rest, [], ALL),
]


@pytest.mark.parametrize(("change", "compiled", "reissued"), TABLE, ids=[change.__name__ for change, *_ in TABLE])
def test_an_action(own: Shop, change: Callable[[Shop], None], compiled: list[str], reissued: list[str]) -> None:
    with Registry.open(own.root / ".quire" / "registry.db") as registry:
        before = {record.module_id: record for record in registry.all_live()}
    change(own)
    with open_project(own.root) as project:
        report = project.build()
        anew = sorted([*compiled, *reissued])
        assert [ref.module_id for ref in report.compiled] == compiled
        assert [ref.module_id for ref in report.reissued] == reissued
        assert sorted(run.module_id for run in report.tested) == anew, "golden tests are run again"
        assert all(run.green for run in report.tested)
        live = {record.module_id: record for record in project.registry.all_live()}
        assert sorted(name for name in live if live[name].version != before[name].version) == anew
        assert not any(record.stale for record in live.values())
        assert {plan.action for plan in project.plan()} == {"current"}
        # The route table and the versions it leads to came into force in one step.
        drafted = draft_routes(project.settings, project.registry)
        assert project.registry.routes.digest_in_force() == drafted.digest
        plan, chain = project.runtime.answerer.route(Question(prompt="What does a bolt cost?"), LOCAL)
        assert plan.table == drafted.digest
        assert chain[-1].version == live["prices"].version
        assert project.ask("What does a bolt cost?", max_tokens=2).text() is not None
        # Old against new wherever the same questions were asked of both.
        assert sorted(one.module_id for one in report.compared) == anew
