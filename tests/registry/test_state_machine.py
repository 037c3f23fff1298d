"""Any sequence of changes, against a catalogue kept in dictionaries."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from services.registries import Places

from quire.core import State
from quire.errors import (
    ChainBroken,
    IllegalTransition,
    NoLiveVersion,
    NothingToRollBack,
    RegistryError,
    VersionInUse,
)
from quire.registry import Registry, VersionRecord

from .making import BY, record

Name = tuple[str, int]
NAMES: list[Name] = [(module_id, number) for module_id in ("base", "child") for number in (1, 2, 3)]
# Publishing and going back are what the rules are about, so they come most often.
changes = st.sampled_from(
    [
        *["publish"] * 6,
        *["roll_back"] * 3,
        *["compile_again", "compile_elsewhere", "retire", "revoke", "pin", "unpin", "forget", "collect"],
    ]
)


@dataclass
class Kept:
    digest: str
    parent: Name | None
    parent_digest: str | None
    state: State = "candidate"
    pinned: bool = False


@dataclass
class Oracle:
    """The rules of the lifecycle, written the simplest way: a dictionary, and a list of what was live."""

    kept: dict[Name, Kept] = field(default_factory=dict)
    revoked: set[Name] = field(default_factory=set)  # for good, also when forgotten
    was_live: dict[str, list[int]] = field(default_factory=lambda: {"base": [], "child": []})

    def children(self, name: Name) -> list[Name]:
        return [other for other, kept in self.kept.items() if kept.parent == name]

    def live(self, module_id: str) -> Name | None:
        return next((n for n, k in self.kept.items() if n[0] == module_id and k.state == "live"), None)

    def chain_holds(self, name: Name) -> bool:
        kept = self.kept[name]
        return kept.parent is None or self.kept[kept.parent].digest == kept.parent_digest

    def make_live(self, name: Name) -> type[RegistryError] | None:
        kept = self.kept[name]
        if kept.state == "revoked":
            return IllegalTransition
        if not self.chain_holds(name):
            return ChainBroken
        if kept.parent and self.kept[kept.parent].state not in ("live", "retired"):
            return IllegalTransition
        if previous := self.live(name[0]):
            self.kept[previous].state = "retired"
        kept.state = "live"
        return None


class Lifecycle(RuleBasedStateMachine):
    places: Places

    @initialize()
    def open_registry(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="quire-registry-"))
        self.registry = Registry.open(self.places.empty(self.folder))
        self.oracle = Oracle()
        self.generation = 0
        for name in NAMES:
            self.register(name, "cpu")

    def teardown(self) -> None:
        if hasattr(self, "registry"):
            broken = not all(map(self.oracle.chain_holds, self.oracle.kept))
            found = {finding.check for finding in self.registry.integrity()}
            assert found == ({"parent"} if broken else set())
            self.registry.close()
            shutil.rmtree(self.folder)

    def get(self, name: Name) -> VersionRecord:
        return self.registry.get(name[0], record(*name).version)

    def expect(self, error: type[RegistryError] | None, change: str, name: Name) -> None:
        call = getattr(self.registry, change)
        if error is None:
            call(name[0], record(*name).version, **BY)
        else:
            with pytest.raises(error):
                call(name[0], record(*name).version, **BY)

    @rule(change=changes, name=st.sampled_from(NAMES))
    def change(self, change: str, name: Name) -> None:
        if name in self.oracle.kept:
            getattr(self, change)(name)
        else:
            self.register(name, "cpu")

    def compile_again(self, name: Name) -> None:
        self.register(name, "cpu")

    def compile_elsewhere(self, name: Name) -> None:
        self.register(name, "cuda")

    def register(self, name: Name, numerics: str) -> None:
        # A child of number n stands on the base of the same number.
        parent_name = ("base", name[1]) if name[0] == "child" else None
        if parent_name and parent_name not in self.oracle.kept:
            with pytest.raises(ChainBroken):
                self.registry.register(record(*name, parent=record(*parent_name)), **BY)
            return
        parent = self.get(parent_name) if parent_name else None
        made = record(*name, parent=parent, numerics=numerics)
        if name in self.oracle.revoked and name not in self.oracle.kept:
            with pytest.raises(IllegalTransition):
                self.registry.register(made, **BY)
            return
        self.registry.register(made, **BY)
        kept = self.oracle.kept.setdefault(name, Kept(made.digest, parent_name, None))
        kept.digest, kept.parent_digest = made.digest, parent.digest if parent else None

    def publish(self, name: Name) -> None:
        was = self.oracle.kept[name].state
        self.expect(error := self.oracle.make_live(name), "publish", name)
        if error is None and was != "live":
            self.oracle.was_live[name[0]].append(name[1])

    def retire(self, name: Name) -> None:
        kept = self.oracle.kept[name]
        allowed = kept.state in ("live", "retired")
        self.expect(None if allowed else IllegalTransition, "retire", name)
        kept.state = "retired" if allowed else kept.state

    def revoke(self, name: Name) -> None:
        self.expect(None, "revoke", name)
        for revoked in (name, *self.oracle.children(name)):
            self.oracle.revoked.add(revoked)
            self.oracle.kept[revoked].state = "revoked"

    def pin(self, name: Name) -> None:
        self.expect(None, "pin", name)
        self.oracle.kept[name].pinned = True

    def unpin(self, name: Name) -> None:
        self.expect(None, "unpin", name)
        self.oracle.kept[name].pinned = False

    def forget(self, name: Name) -> None:
        kept = self.oracle.kept[name]
        in_use = kept.state == "live" or kept.pinned or bool(self.oracle.children(name))
        self.expect(VersionInUse if in_use else None, "forget", name)
        if not in_use:
            del self.oracle.kept[name]

    def roll_back(self, name: Name) -> None:
        module_id = name[0]
        stack = self.oracle.was_live[module_id]
        for depth in range(len(stack) - 1, 0, -1):
            kept = self.oracle.kept.get((module_id, stack[depth - 1]))
            if kept and kept.state == "retired":
                break
        else:
            with pytest.raises(NothingToRollBack):
                self.registry.rollback(module_id, **BY)
            return
        target = (module_id, stack[depth - 1])
        if error := self.oracle.make_live(target):
            with pytest.raises(error):
                self.registry.rollback(module_id, **BY)
            return
        assert self.registry.rollback(module_id, **BY)[1].version == record(*target).version
        del stack[depth:]

    def collect(self, _name: Name) -> None:
        gone = self.registry.gc_candidates(keep=1)
        for name, kept in self.oracle.kept.items():
            if kept.state == "live" or kept.pinned:
                needed = {record(*name).version, *([record(*kept.parent).version] if kept.parent else [])}
                assert needed.isdisjoint(r.version for r in gone)
        for found in gone:
            self.registry.forget(found.module_id, found.version, **BY)
            del self.oracle.kept[found.module_id, found.inputs["number"]]
        assert self.registry.gc_candidates(keep=1) == []

    @invariant()
    def the_registry_says_what_the_oracle_says(self) -> None:
        if not hasattr(self, "registry"):
            return
        found = {(r.module_id, r.inputs["number"]): r for r in self.registry.versions()}
        assert {name: (r.state, r.digest, r.pinned) for name, r in found.items()} == {
            name: (kept.state, kept.digest, kept.pinned) for name, kept in self.oracle.kept.items()
        }
        for module_id in {name[0] for name in found}:
            if live := self.oracle.live(module_id):
                assert self.registry.live(module_id) == found[live]
            else:
                with pytest.raises(NoLiveVersion):
                    self.registry.live(module_id)
        assert self.generation <= self.registry.generation()
        self.generation = self.registry.generation()


def test_no_sequence_of_changes_leads_astray(places: Places) -> None:
    Lifecycle.places = places
    Lifecycle.TestCase.settings = settings(
        max_examples=10,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    Lifecycle.TestCase("runTest").debug()
