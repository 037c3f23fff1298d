"""A build does exactly what a change asks for, and says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from quire import open_project
from quire.core import ModuleSpec
from quire.errors import (
    DocumentTooLong,
    ModelMismatch,
    ModuleUnknown,
    ParentCycle,
    ParentUnknown,
    ScopeTooWide,
    SourceError,
)
from quire.settings import parse_scope
from quire.staleness import check_scope, in_build_order

from .building import MakeProject, Watch

SOURCES = {
    "company": "Norrvik sells bolts.",
    "prices": "A bolt costs 3 pounds.",
    "shipping": "Parcels leave at noon.",
    "island": "Nobody lives here.",
}
PARENTS = {"prices": "company", "shipping": "company"}
ALL = list(SOURCES)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, write_project: MakeProject) -> Path:
    """A project of four modules, built; its model directory is its own."""
    root: Path = tmp_path_factory.mktemp("planning") / "shop"
    write_project(root, SOURCES, parents=PARENTS)
    with open_project(root) as project:
        report = project.build()
    assert [ref.module_id for ref in report.compiled] == ALL
    return root


@pytest.fixture
def shop(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "moved"))


def reasons(root: Path) -> dict[str, list[str]]:
    """What a build would do and why, by module; nothing for those that are current."""
    with open_project(root) as project:
        plans = project.plan()
        found = {
            plan.spec.module_id: [str(reason) for reason in plan.reasons] for plan in plans if plan.action != "current"
        }
        watch = Watch()
        report = project.build(progress=watch)
        assert [ref.module_id for ref in report.compiled] == watch.started == watch.done
        assert set(found) == {ref.module_id for ref in report.published}
        assert [plan.action for plan in project.plan()] == ["current"] * len(plans)
    return found


def edit(root: Path, old: str, new: str) -> None:
    file = root / "quire.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_a_directory_that_moved_is_current_and_no_model_is_loaded(shop: Path) -> None:
    with open_project(shop) as project:
        assert [plan.action for plan in project.plan()] == ["current"] * 4
        report = project.build()
        assert [ref.module_id for ref in report.current] == ALL
        assert (report.compiled, report.published) == ([], [])
        assert project._model is None


def test_times_and_raw_bytes_of_a_source_do_not_count(shop: Path) -> None:
    file = shop / "knowledge" / "prices.md"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n") + b"\n")
    assert reasons(shop) == {}


def test_a_changed_leaf_is_compiled_alone(shop: Path) -> None:
    (shop / "knowledge" / "prices.md").write_text("A bolt costs 4 pounds.")
    assert reasons(shop) == {"prices": ["source changed: knowledge/prices.md"]}


def test_a_changed_parent_is_compiled_with_its_children(shop: Path) -> None:
    (shop / "knowledge" / "company.md").write_text("Norrvik sells nuts.")
    assert reasons(shop) == {
        "company": ["source changed: knowledge/company.md"],
        "prices": ["parent company changed"],
        "shipping": ["parent company changed"],
    }


def test_added_and_removed_sources_are_named(shop: Path) -> None:
    (shop / "knowledge" / "more.md").write_text("More.")
    edit(shop, 'sources = ["knowledge/island.md"]', 'sources = ["knowledge/more.md"]')
    assert reasons(shop) == {"island": ["source added: knowledge/more.md", "source removed: knowledge/island.md"]}


SETTINGS: list[tuple[str, str, str]] = [
    ("threads = 1", "threads = 1\n[build]\nprefill_chunk = 16", "prefill chunk changed"),
    ("threads = 1", "threads = 1\n[build]\nshard_bytes = 2000000", "shard size changed"),
    ("threads = 1", "threads = 1\n[project]\ntenant = 'acme'", "tenant changed"),
]


@pytest.mark.parametrize(("old", "new", "reason"), SETTINGS, ids=[reason for _, _, reason in SETTINGS])
def test_a_setting_that_is_part_of_the_key_compiles_everything(shop: Path, old: str, new: str, reason: str) -> None:
    edit(shop, old, new)
    found = reasons(shop)
    assert set(found) == set(ALL)
    assert all(reason in why for why in found.values())


def test_threads_are_no_part_of_the_key(shop: Path) -> None:
    edit(shop, "threads = 1", "threads = 2")
    assert reasons(shop) == {}


def test_scope_and_title_are_part_of_the_key(shop: Path) -> None:
    edit(shop, '[modules."island"]', '[modules."island"]\ntitle = "The island"')
    assert reasons(shop) == {"island": ["title changed"]}
    edit(shop, 'sources = ["knowledge/island.md"]\nacl = "public"', 'sources = ["knowledge/island.md"]')
    assert reasons(shop) == {"island": ["acl changed"]}


def test_a_module_with_another_parent_or_none(shop: Path) -> None:
    edit(shop, 'acl = "public"\nparent = "company"', 'acl = "public"\nparent = "island"')
    assert reasons(shop) == {"prices": ["parent island changed"]}
    edit(shop, 'acl = "public"\nparent = "island"', 'acl = "public"')
    assert reasons(shop) == {"prices": ["it has no parent any more"]}


def test_going_back_publishes_what_is_compiled_already(shop: Path) -> None:
    file = shop / "knowledge" / "prices.md"
    before = file.read_text()
    file.write_text("A bolt costs 4 pounds.")
    reasons(shop)
    file.write_text(before)
    with open_project(shop) as project:
        assert [(p.spec.module_id, str(r)) for p in project.plan() for r in p.reasons] == [
            ("prices", "compiled before, now retired")
        ]
        report = project.build()
        assert report.compiled == []
        assert [ref.module_id for ref in report.published] == ["prices"]


def own_model(shop: Path, tiny_model_dir: Path) -> Path:
    model = Path(shutil.copytree(tiny_model_dir, shop / "model"))
    edit(shop, str(tiny_model_dir), "model")
    return model


def test_another_place_of_the_same_model_is_the_same_model(shop: Path, tiny_model_dir: Path) -> None:
    own_model(shop, tiny_model_dir)
    assert reasons(shop) == {}


def change_weights(model: Path) -> None:
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-3] ^= 1
    (model / "model.safetensors").write_bytes(data)


def change_tokenizer(model: Path) -> None:
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 4096}))


def change_template(model: Path) -> None:
    for file in model.iterdir():
        if file.name in {"chat_template.jinja", "tokenizer_config.json"}:
            file.write_text(file.read_text().replace("<|im_start|>", "<|im_end|>"))


MODELS: list[tuple[Callable[[Path], None], str]] = [
    (change_weights, "model changed"),
    (change_tokenizer, "tokenizer changed"),
    (change_template, "layout changed"),
]


@pytest.mark.parametrize(("change", "reason"), MODELS, ids=[reason for _, reason in MODELS])
def test_another_model_compiles_everything(
    shop: Path, tiny_model_dir: Path, change: Callable[[Path], None], reason: str
) -> None:
    change(own_model(shop, tiny_model_dir))
    found = reasons(shop)
    assert set(found) == set(ALL)
    assert all(reason in why for why in found.values())


def test_another_dtype_compiles_everything(shop: Path) -> None:
    edit(shop, "threads = 1", 'threads = 1\ndtype = "bfloat16"')
    found = reasons(shop)
    assert all("dtype changed" in why and "model changed" in why for why in found.values())


def test_a_missing_artifact_is_made_again(shop: Path) -> None:
    with open_project(shop) as project:
        digest = project.registry.live("island").digest
        assert project.store.delete(digest)
        island = next(p for p in project.plan() if p.spec.module_id == "island")
        assert island.action == "compile"
        assert [(r.trigger, r.text) for r in island.reasons] == [("missing", "its artifact is missing")]
        project.build()
        assert project.registry.live("island").digest == digest, "same inputs on one machine give the same bytes"


def test_only_the_named_modules_and_their_ancestors_are_built(shop: Path) -> None:
    for name in ("company", "shipping", "island"):
        (shop / "knowledge" / f"{name}.md").write_text(f"New text of {name}.")
    with open_project(shop) as project:
        report = project.build(only=["prices"])
        assert [ref.module_id for ref in report.compiled] == ["company", "prices"]
        with pytest.raises(ModuleUnknown, match="prizes") as unknown:
            project.build(only=["prizes"])
        assert "prices" in unknown.value.hint


def test_a_child_of_a_parent_with_other_bytes_is_compiled_again(shop: Path) -> None:
    """Same key, other numerics: the parent's artifact is lost and made anew with another number of threads."""
    with open_project(shop) as project:
        old = project.registry.live("company")
        assert project.store.delete(old.digest)
    edit(shop, "threads = 1", "threads = 2")
    with open_project(shop) as project:
        plans = {p.spec.module_id: p for p in project.plan()}
        assert list(map(str, plans["company"].reasons)) == ["its artifact is missing"]
        assert list(map(str, plans["prices"].reasons)) == ["parent company is compiled again"]
        report = project.build()
        assert [ref.module_id for ref in report.compiled] == ["company", "prices", "shipping"]
        new, child = project.registry.live("company"), project.registry.live("prices")
        assert new.key == old.key
        assert new.digest != old.digest
        assert project.registry.chain(child)[0].digest == new.digest
        answer = project.ask("bolt?", module="prices", max_tokens=3, ignore_eos=True)
        answer.text()
        assert len(answer.token_ids) == 3


def test_a_document_that_does_not_fit_is_refused_with_its_counts(project: MakeProject) -> None:
    root = project({"long": "word " * 3000, "child": "x"}, parents={"child": "long"})
    with open_project(root) as opened, pytest.raises(DocumentTooLong) as refused:
        opened.build()
    assert "module long has " in str(refused.value)
    assert "context is 2048" in str(refused.value)
    assert "--split headings" in refused.value.hint
    root = project({"long": "word " * 850, "child": "word " * 300}, parents={"child": "long"})
    with open_project(root) as opened, pytest.raises(DocumentTooLong, match=r"tokens after \d+ of its ancestors"):
        opened.plan()
    with open_project(root) as opened:
        assert opened.registry.versions() == []
        assert opened.store.digests() == []


def test_bad_sources_stop_a_build_before_it_begins(shop: Path) -> None:
    (shop / "knowledge" / "company.md").write_text("New.")
    (shop / "knowledge" / "island.md").write_bytes(b"\x00\x01\x02")
    with open_project(shop) as project:
        before = [r.ref for r in project.registry.versions()]
        with pytest.raises(SourceError):
            project.build()
        assert [r.ref for r in project.registry.versions()] == before


def test_a_tokenizer_of_another_model_is_refused(shop: Path, tiny_model_dir: Path) -> None:
    model = own_model(shop, tiny_model_dir)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"vocab_size": 64}))
    with open_project(shop) as project, pytest.raises(ModelMismatch, match="the model has 64 tokens"):
        project.plan()


# Families


def spec(name: str, parent: str | None = None, acl: str = "public") -> ModuleSpec:
    return ModuleSpec(name, ("x.md",), parent, name, "local", parse_scope(acl, "test"))


def test_parents_come_before_children_whatever_the_order() -> None:
    specs = [spec("c", "b"), spec("b", "a"), spec("d", "a"), spec("a"), spec("e")]
    assert [s.module_id for s in in_build_order(specs)] == ["a", "b", "c", "d", "e"]
    assert [s.module_id for s in in_build_order(specs, ["d"])] == ["a", "d"]
    assert in_build_order([]) == []


@pytest.mark.parametrize(
    ("specs", "circle"),
    [
        ([spec("a", "a")], "a -> a"),
        ([spec("a", "b"), spec("b", "a")], "a -> b -> a"),
        ([spec("x", "a"), spec("a", "b"), spec("b", "c"), spec("c", "a")], "x -> a -> b -> c -> a"),
    ],
    ids=["itself", "two", "three"],
)
def test_a_cycle_is_shown(specs: list[ModuleSpec], circle: str) -> None:
    with pytest.raises(ParentCycle, match=circle):
        in_build_order(specs)


def test_an_unknown_parent_is_named_with_a_suggestion() -> None:
    with pytest.raises(ParentUnknown, match="compani") as unknown:
        in_build_order([spec("company"), spec("prices", "compani")])
    assert "company" in unknown.value.hint


WIDTHS = [
    ("public", "public", True),
    ("tenant:a", "public", True),
    ("public", "tenant:a", False),
    ("tenant:a", "tenant:a", True),
    ("tenant:a", "tenant:b", False),
    ("workspace:a/w", "tenant:a", True),
    ("user:a/u", "tenant:a", True),
    ("workspace:ab/w", "tenant:a", False),
    ("tenant:a", "workspace:a/w", False),
    ("user:a/u", "workspace:a/w", False),
    ("workspace:a/w", "workspace:a/w", True),
    ("workspace:a/w", "workspace:a/v", False),
    ("user:a/u", "user:a/v", False),
]


@pytest.mark.parametrize(("child", "parent", "allowed"), WIDTHS, ids=[f"{c} in {p}" for c, p, _ in WIDTHS])
def test_a_child_is_never_visible_to_more_than_its_parent(child: str, parent: str, allowed: bool) -> None:
    if allowed:
        check_scope(spec("child", "parent", child), spec("parent", acl=parent))
        return
    with pytest.raises(ScopeTooWide, match="child") as refused:
        check_scope(spec("child", "parent", child), spec("parent", acl=parent))
    assert parent in str(refused.value)
