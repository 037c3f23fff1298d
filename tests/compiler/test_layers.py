"""Layers in practice: tools under a root, shared by domains of different scopes; nobody's KV over hidden text."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from quire import Project, Turn, open_project
from quire.access import LOCAL
from quire.answering import Question
from quire.core import ModuleSpec, Scope, ScopeKind
from quire.errors import ScopeTooWide

TENANTS, USERS, WORKSPACES = ("acme", "globex"), ("ann", "bob"), ("legal", "sales")
KINDS: tuple[ScopeKind, ...] = ("public", "tenant", "workspace", "user")


@dataclass(frozen=True)
class Reader:
    tenant: str
    user: str
    workspaces: frozenset[str]


def everybody() -> Iterator[Reader]:
    """Every reader there can be: of each tenant, as each user or as a program, in each set of workspaces."""
    for tenant, user in itertools.product(TENANTS, (*USERS, "")):
        for size in range(len(WORKSPACES) + 1):
            for chosen in itertools.combinations(WORKSPACES, size):
                yield Reader(tenant, user, frozenset(chosen))


def readers(scope: Scope) -> frozenset[Reader]:
    """Who may read `scope`, one by one: written from docs/access.md and not from the compiler."""
    tenant, _, name = scope.owner.partition("/")
    return frozenset(
        reader
        for reader in everybody()
        if scope.kind == "public"
        or (
            reader.tenant == tenant
            and (
                scope.kind == "tenant"
                or (scope.kind == "workspace" and name in reader.workspaces)
                or (scope.kind == "user" and name == reader.user)
            )
        )
    )


def random_scope(draw: random.Random) -> Scope:
    kind, tenant = draw.choice(KINDS), draw.choice(TENANTS)
    names = {"workspace": draw.choice(WORKSPACES), "user": draw.choice(USERS)}
    owner = {"public": "", "tenant": tenant}.get(kind, f"{tenant}/{names.get(kind)}")
    return Scope(kind, owner)


def random_tree(draw: random.Random) -> list[ModuleSpec]:
    """Up to eight modules, each the root of a tree or below one of those before it, often within its scope."""
    specs: list[ModuleSpec] = []
    for number in range(draw.randint(1, 8)):
        parent = draw.choice(specs) if specs and draw.random() < 0.85 else None
        scope = parent.scope if parent and draw.random() < 0.4 else random_scope(draw)
        name = f"m{number}"
        specs.append(ModuleSpec(name, ("page.md",), parent.module_id if parent else None, name, "acme", scope))
    draw.shuffle(specs)
    return specs


def may_be(specs: list[ModuleSpec]) -> bool:
    """Whether every reader of every module may read all of the text before it."""
    by_name = {spec.module_id: spec for spec in specs}
    for spec in specs:
        above = spec
        while above.parent:
            above = by_name[above.parent]
            if not readers(spec.scope) <= readers(above.scope):
                return False
    return True


@pytest.fixture
def project(tmp_path: Path, tiny_model_dir: Path) -> Iterator[Project]:
    (tmp_path / "page.md").write_text("A bolt costs 3 pounds.\n", encoding="utf-8")
    (tmp_path / "quire.toml").write_text(f'[model]\npath = "{tiny_model_dir}"\nthreads = 1\n', encoding="utf-8")
    with open_project(tmp_path) as opened:
        yield opened


def test_the_compiler_accepts_exactly_the_trees_in_which_nobody_reads_hidden_text(project: Project) -> None:
    draw = random.Random(11)
    accepted = 0
    for _ in range(400):
        specs = random_tree(draw)
        project.settings = replace(project.settings, modules=tuple(specs))
        try:
            plans = project.plan()
        except ScopeTooWide:
            assert not may_be(specs), [(s.module_id, s.parent, str(s.scope)) for s in specs]
        else:
            assert may_be(specs), [(s.module_id, s.parent, str(s.scope)) for s in specs]
            assert len(plans) == len(specs)
            accepted += 1
    assert 60 < accepted < 340, "both happen"


PROJECT = """
[model]
path = "{model}"
threads = 1
[modules.company]
sources = ["page.md"]
acl = "public"
[modules.tools]
parent = "company"
sources = ["tools.json"]
acl = "tenant:acme"
[modules.sales]
parent = "tools"
sources = ["page.md"]
acl = "workspace:acme/sales"
[modules.notes]
parent = "tools"
sources = ["page.md"]
acl = "user:acme/ann"
"""
TOOLS = [
    {"name": name, "description": f"Does {name}.", "inputSchema": {"type": "object", "required": ["b", "a"]}}
    for name in ("look_up", "refund", "cancel")
]


def write_tools(root: Path, tools: object) -> None:
    (root / "tools.json").write_text(json.dumps({"tools": tools}), encoding="utf-8")


def test_domains_of_different_scopes_share_one_registry_of_tools(project: Project, tiny_model_dir: Path) -> None:
    root = project.settings.root
    (root / "quire.toml").write_text(PROJECT.format(model=tiny_model_dir), encoding="utf-8")
    write_tools(root, TOOLS)
    with open_project(root) as opened:
        assert len(opened.build().compiled) == 4
        tools = opened.registry.live("tools")
        for name in ("sales", "notes"):
            assert opened.registry.chain(opened.registry.live(name))[1] == tools
        plan, _ = opened.runtime.answerer.route(Question((Turn("user", "Does look_up look up?"),)), LOCAL)
        assert plan.module_id != "tools", "nobody asks for a list of tools"
        write_tools(root, [{key: tool[key] for key in reversed(tool)} for tool in reversed(TOOLS)])
        assert {plan.action for plan in opened.plan()} == {"current"}, "reordered tools are the same module"
        write_tools(root, TOOLS[:2])
        report = opened.build()
        assert {ref.module_id for ref in report.compiled} == {"tools", "sales", "notes"}, "its domains with it"
        assert opened.registry.live("tools").key != tools.key


def test_a_domain_wider_than_the_tools_is_refused(project: Project, tiny_model_dir: Path) -> None:
    root = project.settings.root
    text = PROJECT.format(model=tiny_model_dir).replace("workspace:acme/sales", "public")
    (root / "quire.toml").write_text(text, encoding="utf-8")
    write_tools(root, TOOLS)
    with open_project(root) as opened, pytest.raises(ScopeTooWide, match=r"sales \(public\).*tools \(tenant:acme\)"):
        opened.build()
