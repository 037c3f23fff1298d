"""Several processes on one registry, and processes that die in the middle."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import time
from multiprocessing.synchronize import Event

from quire.registry import Registry, VersionRecord

from .making import BY, record

SPAWN = multiprocessing.get_context("spawn")
ROUNDS = 20


def publish_in_turn(place: str, first: int) -> None:
    """Publishes builds of every other number, so that two of these never agree on what is live."""
    with Registry.open(place) as registry:
        for number in range(first, first + 2 * ROUNDS, 2):
            publish_build(registry, number)


def publish_build(registry: Registry, number: int) -> VersionRecord:
    """Base and child together; a child of another base than the live one would be half a build."""
    base = registry.register(record("base", number), **BY)
    child = registry.register(record("child", number, parent=base), **BY)
    registry.publish_many([("base", base.version), ("child", child.version)], **BY)
    return child


def test_two_publishers_never_leave_two_live_versions_or_none_or_half_a_build(place: str) -> None:
    with Registry.open(place) as registry:
        publish_build(registry, 10_000)
        publishers = [SPAWN.Process(target=publish_in_turn, args=(place, start)) for start in (0, 1)]
        for publisher in publishers:
            publisher.start()
        looks = 0
        generation = registry.generation()
        while any(publisher.is_alive() for publisher in publishers):
            live = [r for r in registry.versions() if r.state == "live"]
            assert sorted(r.module_id for r in live) == ["base", "child"]
            base, child = sorted(live, key=lambda r: r.module_id)
            assert child.parent == base.ref
            assert generation <= (generation := registry.generation())
            looks += 1
        assert [publisher.exitcode for publisher in publishers] == [0, 0]
        assert looks > 1
        assert len(registry.versions("base")) == 1 + 2 * ROUNDS
        published = [e for e in registry.history("child", 10_000) if e.action == "publish"]
        assert len(published) == 1 + 2 * ROUNDS
        assert registry.live("child").version == published[0].version
        assert registry.integrity() == []


def publish_builds_for_ever(place: str, seed: int, started: Event) -> None:
    """With a rollback now and then."""
    with Registry.open(place) as registry:
        for number in itertools.count(1_000_000 * seed):
            child = publish_build(registry, number)
            if number % 5 == 4:
                registry.rollback("child", **BY)
                registry.publish("child", child.version, **BY)
            started.set()


def test_killing_a_publisher_leaves_a_whole_build_live(place: str) -> None:
    draw = random.Random(7)
    for seed in range(2):
        started = SPAWN.Event()
        publisher = SPAWN.Process(target=publish_builds_for_ever, args=(place, seed, started))
        publisher.start()
        assert started.wait(30)
        time.sleep(draw.uniform(0.0, 0.08))
        assert publisher.pid is not None
        os.kill(publisher.pid, signal.SIGKILL)
        publisher.join()
        with Registry.open(place, busy_seconds=2) as registry:
            assert registry.integrity() == []
            child = registry.live("child")
            assert registry.chain(child)[-1] == child
            states = [r.state for r in registry.versions()]
            assert states.count("live") == 2
            publish_build(registry, -seed - 1)
