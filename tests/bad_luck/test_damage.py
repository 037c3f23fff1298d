"""Whatever happens to the bytes, nothing is generated from them: the error comes first, and has a name."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from quire import Project, open_project
from quire.access import LOCAL, Policy
from quire.errors import ArtifactError, ModelMismatch, QuireError, RegistryError
from quire.model import ModelFacts
from quire.pool import Pool
from quire.registry import Registry
from quire.store import DiskStore

Damage = Callable[[random.Random, Path], None]


@pytest.fixture
def project(shop: Path) -> Iterator[Project]:
    with open_project(shop) as opened:
        yield opened


def flip(draw: random.Random, artifact: Path) -> None:
    file = draw.choice(sorted(artifact.iterdir()))
    data = bytearray(file.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    file.write_bytes(data)


def truncate(draw: random.Random, artifact: Path) -> None:
    file = draw.choice(sorted(artifact.iterdir()))
    with file.open("r+b") as opened:
        opened.truncate(draw.randrange(file.stat().st_size))


def extend(draw: random.Random, artifact: Path) -> None:
    with draw.choice(sorted(artifact.iterdir())).open("ab") as opened:
        opened.write(draw.randbytes(draw.randint(1, 5000)))


def remove(draw: random.Random, artifact: Path) -> None:
    draw.choice(sorted(artifact.iterdir())).unlink()


def swap(draw: random.Random, artifact: Path) -> None:
    first, second = draw.sample(sorted(artifact.iterdir()), 2)
    aside = artifact.with_name("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def borrow(draw: random.Random, artifact: Path) -> None:
    """A file of another module, under the same name."""
    others = [p for p in artifact.parent.iterdir() if p.is_dir() and p != artifact and (p / "manifest.json").is_file()]
    name = draw.choice(["kv-00000.safetensors", "tokens.safetensors", "manifest.json"])
    shutil.copyfile(draw.choice(others) / name, artifact / name)


def zero(draw: random.Random, artifact: Path) -> None:
    file = draw.choice(sorted(artifact.iterdir()))
    data = bytearray(file.read_bytes())
    start = draw.randrange(len(data))
    end = min(len(data), start + 4096)
    if any(data[start:end]):
        data[start:end] = bytes(end - start)
    else:
        data[start] = 1
    file.write_bytes(data)


def dangle(draw: random.Random, artifact: Path) -> None:
    file = draw.choice(sorted(artifact.iterdir()))
    file.unlink()
    file.symlink_to("/etc/hostname")


DAMAGES: list[Damage] = [flip, flip, flip, flip, truncate, extend, remove, swap, borrow, zero, dangle]


@pytest.mark.parametrize("rounds", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_damaged_artifact_is_found_before_it_is_leased(
    project: Project, facts: ModelFacts, tmp_path: Path, rounds: int
) -> None:
    draw = random.Random(rounds)
    chains = [project.registry.chain(project.registry.live(name)) for name in ("prices", "shipping")]
    for number in range(rounds):
        chain = draw.choice(chains)
        artifact = project.store.locate(draw.choice(chain).digest)
        kept = tmp_path / "kept"
        shutil.copytree(artifact, kept)
        for file in artifact.iterdir():
            file.chmod(0o644)
        damage = draw.choice(DAMAGES)
        damage(draw, artifact)
        pool = Pool(project.store, facts, max_bytes=1 << 30, policy=Policy())
        with pytest.raises(ArtifactError) as found:
            pool.lease(chain, LOCAL)
        assert found.value.hint, f"round {number}: {damage.__name__}"
        assert (pool.state().modules, pool.state().leases) <= (1, 0)
        pool.close()
        shutil.rmtree(artifact)
        kept.rename(artifact)
    for chain in chains:
        with Pool(project.store, facts, max_bytes=0, policy=Policy()).lease(chain, LOCAL):
            pass


def test_a_question_to_a_damaged_module_is_refused_and_the_others_are_answered(project: Project) -> None:
    shard = project.store.locate(project.registry.live("prices").digest) / "kv-00000.safetensors"
    shard.chmod(0o644)
    with shard.open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"\xff")
    with pytest.raises(ArtifactError, match=r"kv-00000\.safetensors"):
        project.ask("What?", module="prices")
    project.ask("What?", module="shipping", max_tokens=2).text()


def test_a_damaged_parent_is_found_while_its_child_is_compiled(project: Project, shop: Path) -> None:
    shard = project.store.locate(project.registry.live("company").digest) / "kv-00000.safetensors"
    shard.chmod(0o644)
    with shard.open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"\xff")
    (shop / "knowledge" / "prices.md").write_text("A bolt costs 7 pounds.")
    live = project.registry.live("prices").digest
    with pytest.raises(ArtifactError):
        project.build()
    assert project.registry.live("prices").digest == live
    assert list((project.settings.state / "tmp").iterdir()) == []


@pytest.mark.parametrize("rounds", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_damaged_registry_leads_to_the_right_bytes_or_a_named_error(
    shop: Path, facts: ModelFacts, tmp_path: Path, rounds: int
) -> None:
    draw = random.Random(rounds)
    state = shop / ".quire"
    store = DiskStore(state)
    with Registry.open(state / "registry.db") as registry:
        known = {record.digest: record.module_id for record in registry.versions()}
    good = (state / "registry.db").read_bytes()
    for number in range(rounds):
        place = tmp_path / f"damaged{number}" / "registry.db"
        place.parent.mkdir()
        data = bytearray(good)
        for _ in range(draw.choice([1, 1, 5, 50])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        place.write_bytes(data[: draw.choice([len(data), len(data), draw.randrange(len(data))])])
        pool = Pool(store, facts, max_bytes=1 << 30, policy=Policy())
        with suppress(QuireError), Registry.open(place) as registry:  # any other error fails the test
            record = registry.live("prices")
            with pool.lease(registry.chain(record), LOCAL) as lease:
                assert known[lease.leaf.digest] in {"prices", record.module_id}
        pool.close()


@pytest.mark.parametrize("content", [b"", b"not a database", bytes(4096), b"SQLite format 3\x00" + bytes(5000)])
def test_a_registry_that_is_none_is_named(shop: Path, content: bytes) -> None:
    place = shop / ".quire" / "registry.db"
    place.write_bytes(content)
    with suppress(RegistryError), open_project(shop) as project:
        assert project.registry.versions() == []


def test_a_registry_of_another_model_answers_nothing(shop: Path, tiny_model_dir: Path) -> None:
    other = Path(shutil.copytree(tiny_model_dir, shop / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    toml = shop / "quire.toml"
    toml.write_text(toml.read_text().replace(str(tiny_model_dir), "other"))
    with open_project(shop) as project:
        with pytest.raises(ModelMismatch, match="model fingerprint") as refused:
            project.ask("What?", module="prices")
        assert "quire build" in refused.value.hint
        project.build()
        project.ask("What?", module="prices", max_tokens=2).text()


def test_a_project_copied_without_its_artifacts_says_so_and_builds(shop: Path) -> None:
    shutil.rmtree(shop / ".quire" / "artifacts")
    with open_project(shop) as project:
        with pytest.raises(QuireError) as missing:
            project.ask("What?", module="prices")
        assert missing.value.code == "artifact_not_found"
        assert [ref.module_id for ref in project.build().compiled] == ["company", "prices", "shipping"]
        project.ask("What?", module="prices", max_tokens=2).text()


def test_clocks_decide_nothing(shop: Path) -> None:
    """Files from the future and from the beginning of time are the same files."""

    for number, file in enumerate(sorted(shop.rglob("*"))):
        os.utime(file, (0, 0) if number % 2 else (4_000_000_000, 4_000_000_000))
    with open_project(shop) as project:
        assert {plan.action for plan in project.plan()} == {"current"}
        (shop / "knowledge" / "prices.md").write_text("A bolt costs 7 pounds.")
        os.utime(shop / "knowledge" / "prices.md", (0, 0))
        assert [ref.module_id for ref in project.build().compiled] == ["prices"]
