"""Each trigger is found by its name, with what was expected and what was found, on every module that it concerns."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import train_tokenizer

from quire import open_project
from quire.artifact import digest_bytes
from quire.staleness import Assessment, Identity, assess, dragged_along, recall

from .conftest import Edit

ALL = {"company", "prices", "shipping"}


def assessed(root: Path) -> dict[str, Assessment]:
    with open_project(root) as project:
        return {one.spec.module_id: one for one in assess(project.settings, project.registry, project.identify())}


def triggers(root: Path) -> dict[str, list[str]]:
    """By module that is not fresh: the triggers."""
    return {name: [r.trigger for r in one.reasons] for name, one in assessed(root).items() if not one.fresh}


@pytest.fixture
def own_model(shop: Path, edit: Edit, tiny_model_dir: Path) -> Path:
    """A copy of the model, which the shop uses: the same bytes, hence the same model."""
    model = Path(shutil.copytree(tiny_model_dir, shop / "model"))
    edit(json.dumps(str(tiny_model_dir)), json.dumps(str(model)))
    assert triggers(shop) == {}
    return model


def test_a_source_makes_its_module_and_the_children_stale(shop: Path) -> None:
    file = shop / "knowledge" / "company.md"
    file.write_text("Norrvik sells nuts.")
    found = assessed(shop)
    assert triggers(shop) == {"company": ["source"], "prices": ["parent"], "shipping": ["parent"]}
    (reason,) = found["company"].reasons
    assert reason.subject == "knowledge/company.md"
    live = found["company"].live
    assert live
    assert reason.found == live.sources[0].text_digest
    assert reason.expected == digest_bytes(b"Norrvik sells nuts.\n")
    assert dragged_along(list(found.values())) == {"company": ["prices", "shipping"], "prices": [], "shipping": []}


def test_a_source_of_a_leaf_concerns_the_leaf(shop: Path) -> None:
    (shop / "knowledge" / "prices.md").write_text("A bolt costs 4 pounds.")
    assert triggers(shop) == {"prices": ["source"]}


def test_another_revision_of_the_model_makes_all_of_its_modules_stale(shop: Path, own_model: Path) -> None:
    config = own_model / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "rms_norm_eps": values["rms_norm_eps"] * 2}))
    found = triggers(shop)
    assert set(found) == ALL
    assert all("model" in reasons and "source" not in reasons for reasons in found.values())


def test_another_tokenizer_makes_all_stale_that_was_tokenized_with_it(shop: Path, own_model: Path) -> None:
    train_tokenizer(590).save_pretrained(own_model)
    found = triggers(shop)
    assert set(found) == ALL
    assert all("tokenizer" in reasons and "model" not in reasons for reasons in found.values())


def test_an_acl_makes_the_module_stale(shop: Path, edit: Edit) -> None:
    edit('["knowledge/prices.md"]\nacl = "public"', '["knowledge/prices.md"]\nacl = "tenant:local"')
    found = assessed(shop)
    assert triggers(shop) == {"prices": ["access"]}
    (reason,) = found["prices"].reasons
    assert (reason.expected, reason.found) == ("tenant:local", "public")


def test_a_layout_makes_all_stale_that_use_it(shop: Path, edit: Edit) -> None:
    with open_project(shop) as project:
        definition = project.layout.definition()
    definition["answer"] += " "
    lines = [f"{name} = {json.dumps(value)}" for name, value in definition.items()]
    (shop / "layout.toml").write_text("\n".join(lines))
    edit("[modules", '[layout]\nfile = "layout.toml"\n[modules')
    found = triggers(shop)
    assert set(found) == ALL
    assert all("layout" in reasons for reasons in found.values())


def test_a_source_that_does_not_read_is_a_problem_and_no_staleness(shop: Path) -> None:
    """A machine that only serves may have none of the sources."""
    (shop / "knowledge" / "company.md").unlink()
    found = assessed(shop)
    assert [one.reasons for one in found.values()] == [(), (), ()]
    assert "knowledge/company.md" in found["company"].problem
    assert "its parent company" in found["prices"].problem


def test_what_was_identified_is_remembered_until_a_file_is_touched(shop: Path, own_model: Path) -> None:
    with open_project(shop) as project:
        identity = project.identify()
        assert recall(project.settings) == identity
        tokenizer = own_model / "tokenizer.json"
        tokenizer.write_bytes(tokenizer.read_bytes())
        assert recall(project.settings) is None, "its time of change is another: it must be looked at again"
    with open_project(shop) as project:
        assert project.identify() == identity
        assert recall(project.settings) == identity
        (project.settings.state / "identity.json").write_text("{")
        assert recall(project.settings) is None


def test_an_identity_is_of_one_question(shop: Path, edit: Edit) -> None:
    def recalled() -> Identity | None:
        with open_project(shop) as project:
            return recall(project.settings)

    with open_project(shop) as project:
        project.identify()
    assert recalled() is not None
    edit("threads = 1", 'threads = 1\ndtype = "float16"')
    assert recalled() is None


def test_what_stands_behind_an_expired_parent_does_not_answer_either(shop: Path) -> None:
    with open_project(shop) as project:
        past = datetime.now(UTC) - timedelta(seconds=1)
        company = project.registry.live("company")
        project.registry.register(replace(company, expires_at=past), actor="test", reason="time passes")
    assert {name for name, one in assessed(shop).items() if one.expired and not one.reasons} == ALL
