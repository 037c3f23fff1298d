"""`quire compile`: one module without a project file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quire.cli.single import module_name, parse_acl
from quire.core import Scope
from quire.errors import InvalidSetting

from .conftest import Quire

LONG = Path(__file__).parents[1] / "data" / "long" / "lighthouse.md"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUIRE_MODEL_PATH", str(tiny_model_dir))
    (tmp_path / "faq.md").write_text("# Prices\n\nA bolt costs 3 pounds.\n")
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("text", "scope", "module"),
    [
        ("public", Scope("public"), None),
        ("public:faq", Scope("public"), "faq"),
        ("tenant:acme", Scope("tenant", "acme"), None),
        ("tenant:acme:billing", Scope("tenant", "acme"), "billing"),
        ("workspace:acme/support:billing", Scope("workspace", "acme/support"), "billing"),
        ("user:acme/ann", Scope("user", "acme/ann"), None),
    ],
)
def test_an_acl_names_the_scope_and_perhaps_the_module(text: str, scope: Scope, module: str | None) -> None:
    assert parse_acl(text) == (scope, module)


@pytest.mark.parametrize("text", ["", "tenant", "tenant:", "everyone", "public:a:b", "tenant:a:b:c", "tenant:A C:x"])
def test_other_acls_are_refused(text: str) -> None:
    with pytest.raises(InvalidSetting, match="acl"):
        parse_acl(text)


def test_the_name_is_that_of_the_acl_or_the_first_source() -> None:
    assert module_name(None, "billing", ["x.md"]) == "billing"
    assert module_name(None, None, ["docs/Price List.md"]) == "price-list"
    for name, of_acl, source in [("a", "b", "x.md"), ("A b", None, "x.md"), (None, None, "§.md")]:
        with pytest.raises(InvalidSetting):
            module_name(name, of_acl, [source])


def test_one_document_becomes_a_live_module(quire: Quire, store: Path, tiny_model_dir: Path) -> None:
    done = quire(
        *("compile", "--model", tiny_model_dir, "--source", "faq.md", "--acl", "tenant:acme:billing"),
        *("--out", store, "--title", "Bills", "--threads", 1, "--json"),
    )
    assert [ref["module"] for ref in done.json["published"]] == ["billing"]
    listed = quire("ls", "--project", store, "--json").json["modules"]
    assert [(m["module"], m["state"], m["scope"], m["tenant"], m["title"]) for m in listed] == [
        ("billing", "live", "tenant:acme", "acme", "Bills")
    ]
    answer = quire("ask", "What costs a bolt?", "--module", "billing", "--project", store, "--max-tokens", 3, "--json")
    assert answer.json["quire"]["module"] == "billing"
    again = quire(
        "compile",
        "--model",
        tiny_model_dir,
        "--source",
        "faq.md",
        "--acl",
        "tenant:acme:billing",
        "--out",
        store.as_uri(),
        "--title",
        "Bills",
        "--json",
    )
    assert again.json["compiled"] == []


def test_a_document_that_is_too_long_is_split_at_its_headings(quire: Quire, store: Path, tiny_model_dir: Path) -> None:
    command = ("compile", "--model", tiny_model_dir, "--source", LONG, "--name", "light", "--out", store)
    refused = quire(*command)
    assert refused.code == 5
    assert "tokens" in refused.err
    assert "--split headings" in refused.err
    done = quire(*command, "--split", "headings", "--json")
    assert done.code == 0, done.err
    names = [ref["module"] for ref in done.json["published"]]
    assert len(names) > 1
    assert all(name.startswith("light-") for name in names)
    assert all(row["tokens"] <= 2048 and row["position_start"] == 0 for row in done.json["plan"])


def test_a_child_is_compiled_behind_a_registered_parent(quire: Quire, store: Path, tiny_model_dir: Path) -> None:
    Path("child.md").write_text("Nuts cost 1 pound.\n")
    model = ("--model", tiny_model_dir, "--out", store)
    root = quire("compile", *model, "--source", "faq.md", "--acl", "public:faq", "--json").json["plan"][0]
    child = quire("compile", *model, "--source", "child.md", "--parent", "faq", "--json").json
    assert child["plan"][0]["position_start"] == root["tokens"]
    shown = quire("show", "child", "--project", store, "--json").json
    assert shown["chain"] == [f"faq@{root['version']}", f"child@{child['plan'][0]['version']}"]
    assert quire("verify", "child", "--project", store, "--tokens", 4).code == 0
    wider = quire("compile", *model, "--source", "faq.md", "--acl", "tenant:acme:secret")
    assert wider.code == 0
    refused = quire("compile", *model, "--source", "child.md", "--name", "c2", "--parent", "secret")
    assert (refused.code, "more readers" in refused.err) == (5, True)
    assert quire("compile", *model, "--source", "child.md", "--parent", "nobody").code == 8


def test_a_layout_file_decides_the_prompt(quire: Quire, store: Path, tiny_model_dir: Path) -> None:
    Path("layout.toml").write_text(
        'id = "notes"\nversion = "7"\nroot = "{content}"\nchild = "{content}"\ninstruction = "{content}"\n'
        'first_user = "Q:"\nassistant = "A:"\nuser = "Q:"\nanswer = "A:"\n'
    )
    model = ("--model", tiny_model_dir, "--out", store, "--source", "faq.md")
    assert quire("compile", *model, "--layout", "layout.toml").code == 0
    assert quire("show", "faq", "--project", store, "--json").json["layout"]["id"] == "notes"
    assert quire("compile", *model, "--layout", "nowhere.toml").code == 3


@pytest.mark.parametrize("out", ["ftp://host/modules", "file://host/path"])
def test_a_store_elsewhere_is_refused_by_name(quire: Quire, store: Path, tiny_model_dir: Path, out: str) -> None:
    refused = quire("compile", "--model", tiny_model_dir, "--source", "faq.md", "--out", out)
    assert refused.code == 2
    assert out in refused.err
    assert os.listdir(store.parent) == ["faq.md"]
