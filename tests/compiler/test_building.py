"""A build can be stopped, repeated, run beside another and beside the answers, and leaves nothing half done."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch

from quire import Project, Turn, open_project
from quire.artifact import open_artifact
from quire.compiler import find_problems
from quire.errors import BuildBusy, BuildInterrupted, StoreError

from .building import MakeProject, Watch

SOURCES = {"company": "Norrvik sells bolts. " * 20, "prices": "A bolt costs 3 pounds. " * 20, "island": "Sheep. " * 30}
PARENTS = {"prices": "company"}
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["quire.compiler", "quire.project"])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, write_project: MakeProject) -> Path:
    root: Path = write_project(
        tmp_path_factory.mktemp("building") / "shop", SOURCES, parents=PARENTS, **{"build.prefill_chunk": 32}
    )
    with open_project(root) as project:
        project.build()
    return root


@pytest.fixture
def shop(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "shop"))


def rewrite(root: Path, module: str, text: str) -> None:
    (root / "knowledge" / f"{module}.md").write_text(text)


def answer(project: Project, module: str = "prices") -> list[int]:
    running = project.ask("What does it cost?", module=module, max_tokens=8, ignore_eos=True)
    running.text()
    return running.token_ids


def clean(project: Project) -> bool:
    left = list((project.settings.state / "tmp").iterdir())
    return not left and find_problems(project.registry, project.store, advance=lambda _: None) == []


def test_progress_counts_every_token(shop: Path) -> None:
    rewrite(shop, "company", "Norrvik sells nuts. " * 20)
    with open_project(shop) as project:
        watch = Watch()
        report = project.build(progress=watch)
        assert watch.started == watch.done == ["company", "prices"]
        for ref in report.compiled:
            assert watch.tokens[ref.module_id] == project.registry.live(ref.module_id).token_count
        assert clean(project)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_stops_a_build_and_the_next_one_goes_on(shop: Path, number: signal.Signals) -> None:
    for module in SOURCES:
        rewrite(shop, module, f"All about {module} is new. " * 20)
    with open_project(shop) as project:
        before = {r.module_id: r.digest for r in project.registry.versions()}
        was = answer(project)
        handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

        def stop(module: str, tokens: int) -> None:
            if module == "prices" and tokens > 32:
                os.kill(os.getpid(), number)

        with pytest.raises(BuildInterrupted, match="prices") as stopped:
            project.build(progress=Watch(stop))
        assert stopped.value.exit_code == 130
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
        assert {m: project.registry.live(m).digest for m in SOURCES} == before, "the old versions are still live"
        assert answer(project) == was
        assert clean(project)
        watch = Watch()
        report = project.build(progress=watch)
        assert watch.started == ["prices", "island"], "the finished one is kept"
        assert {ref.module_id for ref in report.published} == set(SOURCES)
        assert clean(project)


def test_an_error_in_the_middle_leaves_nothing_and_keeps_the_old(shop: Path) -> None:
    rewrite(shop, "prices", "A bolt costs 4 pounds. " * 20)

    def fail(_module: str, tokens: int) -> None:
        if tokens > 32:
            raise StoreError("the disk went away")

    with open_project(shop) as project:
        live = project.registry.live("prices").digest
        with pytest.raises(StoreError, match="went away"):
            project.build(progress=Watch(fail))
        assert project.registry.live("prices").digest == live
        assert clean(project)
        assert project.build().compiled[0].module_id == "prices"


def hold_lock(root: str, started: Event, release: Event) -> None:
    from quire.compiler import build_lock

    with build_lock(Path(root) / ".quire"):
        started.set()
        release.wait(60)


def test_two_builds_at_once(shop: Path) -> None:
    started, release = FORKSERVER.Event(), FORKSERVER.Event()
    other = FORKSERVER.Process(target=hold_lock, args=(str(shop), started, release))
    other.start()
    try:
        assert started.wait(60)
        with open_project(shop) as project:
            with pytest.raises(BuildBusy, match=f"process {other.pid}") as busy:
                project.build()
            assert busy.value.hint
            release.set()
            other.join()
            project.build()
    finally:
        release.set()
        other.join()


def test_two_builds_in_one_process(shop: Path) -> None:
    rewrite(shop, "prices", "A bolt costs 4 pounds. " * 20)
    with open_project(shop) as project, open_project(shop) as second:

        def build_too(_module: str, _tokens: int) -> None:
            with pytest.raises(BuildBusy):
                second.build()

        project.build(progress=Watch(build_too))


def test_a_dead_builder_holds_nothing(shop: Path) -> None:
    started, release = FORKSERVER.Event(), FORKSERVER.Event()
    other = FORKSERVER.Process(target=hold_lock, args=(str(shop), started, release))
    other.start()
    assert started.wait(60)
    other.kill()
    other.join()
    with open_project(shop) as project:
        project.build()


def test_the_old_version_answers_while_the_build_runs_and_the_new_one_after(shop: Path) -> None:
    with open_project(shop) as project:
        old = answer(project)
        rewrite(shop, "company", "Norrvik sells nuts and a great many other things. " * 10)
        seen: list[list[int]] = []
        watch = Watch(lambda module, _: seen.append(answer(project)) if module == "prices" else None)
        project.build(progress=watch)
        assert seen
        assert all(tokens == old for tokens in seen)
        assert answer(project) != old


def test_a_build_publishes_all_or_nothing(shop: Path) -> None:
    rewrite(shop, "company", "Norrvik sells nuts. " * 20)
    rewrite(shop, "island", "Goats. " * 30)
    with open_project(shop) as project:
        states: list[set[str]] = []
        project.build(
            progress=Watch(
                lambda *_: states.append({r.digest for r in project.registry.versions() if r.state == "live"})
            )
        )
        assert all(state == states[0] for state in states)


def test_verification_compares_every_module_with_a_full_prefill(shop: Path) -> None:
    with open_project(shop) as project:
        for record in project.registry.versions():
            found = project.verify(record, "What does a bolt cost?")
            assert found.same
            assert found.largest_difference < 1e-3
            assert found.gap == 0.0


def test_prefill_in_chunks_gives_the_kv_of_one_piece(project: MakeProject) -> None:
    whole = project(SOURCES, parents=PARENTS, name="whole", **{"build.prefill_chunk": 4096})
    chunked = project(SOURCES, parents=PARENTS, name="chunked", **{"build.prefill_chunk": 16})
    with open_project(whole) as one, open_project(chunked) as many:
        one.build()
        many.build()
        for module in SOURCES:
            records = one.registry.live(module), many.registry.live(module)
            assert records[0].key != records[1].key
            with (
                open_artifact(one.store.locate(records[0].digest), expect_digest=records[0].digest) as a,
                open_artifact(many.store.locate(records[1].digest), expect_digest=records[1].digest) as b,
            ):
                assert a.token_ids == b.token_ids
                pairs = [*zip(a.segment.keys, b.segment.keys, strict=True)]
                pairs += [*zip(a.segment.values, b.segment.values, strict=True)]
                assert max(float((x - y).abs().max()) for x, y in pairs) < 1e-3
                assert torch.isfinite(a.segment.keys[0]).all()
                del pairs


BUILD = """
import sys, quire
with quire.open_project(sys.argv[1]) as project:
    for module in sys.argv[2:]:
        project.build(only=[module])
    project.build()
"""


def contents(root: Path) -> dict[str, bytes]:
    """Every byte of every artifact."""
    base = root / ".quire" / "artifacts"
    return {str(f.relative_to(base)): f.read_bytes() for f in sorted(base.rglob("*")) if f.is_file()}


def test_processes_that_compile_the_same_input_give_the_same_bytes(project: MakeProject, tiny_model_dir: Path) -> None:
    """In another directory, in another order, in one build or in three, from a copy of the model."""
    first = project(SOURCES, parents=PARENTS, name="first")
    copied = Path(shutil.copytree(tiny_model_dir, first.parent / "model"))
    backwards = dict(reversed(SOURCES.items()))
    second = project(backwards, parents=PARENTS, name="deep/er/second", model=copied)
    run = [sys.executable, "-c", BUILD]
    builds = [
        subprocess.Popen([*run, str(first)]),
        subprocess.Popen([*run, str(second), "island", "prices"], env={**os.environ, "PYTHONHASHSEED": "7"}),
    ]
    assert [build.wait(timeout=200) for build in builds] == [0, 0]
    with open_project(first) as one, open_project(second) as two:
        for module in SOURCES:
            a, b = one.registry.live(module), two.registry.live(module)
            assert (a.key, a.digest) == (b.key, b.digest)
    assert contents(first) == contents(second)


def test_rolled_back_a_module_answers_with_the_layout_it_was_compiled_for(shop: Path) -> None:
    question = [Turn("user", "What does it cost?")]
    layout = """
id = "loud"
version = "2"
root = "FACTS {content}"
child = " MORE {content}"
instruction = " {content}"
first_user = " ASK "
assistant = " SAY "
user = " ASK "
answer = " SAY "
"""
    with open_project(shop) as project:
        before = answer(project)
        old = {m: project.registry.live(m) for m in SOURCES}
    (shop / "loud.toml").write_text(layout)
    toml = shop / "quire.toml"
    toml.write_text(toml.read_text() + '[layout]\nfile = "loud.toml"\n')
    with open_project(shop) as project:
        assert {"layout changed"} <= {str(r) for plan in project.plan() for r in plan.reasons}
        project.build()
        new = project.chat(question, module="prices", max_tokens=1)
        new.text()
        assert project.model.tokenizer.decode(new.prepared.suffix_ids) == " ASK What does it cost? SAY "
        for module in SOURCES:
            project.registry.rollback(module, actor="tester", reason="the layout was wrong")
        assert {m: project.registry.live(m).digest for m in SOURCES} == {m: r.digest for m, r in old.items()}
        assert answer(project) == before


def test_a_revoked_version_is_not_built_back(shop: Path) -> None:
    with open_project(shop) as project:
        record = project.registry.live("island")
        project.registry.revoke("island", record.version, actor="tester", reason="wrong facts")
        report = project.build()
        assert report.withheld == {"island": f"{record.ref} is revoked: change its sources or layout"}
        assert (report.compiled, report.published) == ([], [])
        project.store.delete(record.digest)
        again = project.build()
        assert (again.withheld, again.compiled) == (report.withheld, []), "it is not compiled for nothing"
        rewrite(shop, "island", "Goats. " * 30)
        project.build()
        assert project.registry.live("island").version != record.version


def test_builds_from_other_threads_than_the_main_one(shop: Path) -> None:
    rewrite(shop, "prices", "A bolt costs 4 pounds. " * 20)
    failed: list[BaseException] = []

    def build() -> None:
        try:
            with open_project(shop) as project:
                project.build()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    thread.join()
    assert failed == []
