"""Several processes on one registry, and processes that die in the middle."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.synchronize import Event
from pathlib import Path

from quire.registry import Registry

from .making import BY, record

SPAWN = multiprocessing.get_context("spawn")
ROUNDS = 60


def publish_in_turn(path: Path, first: int) -> None:
    """Registers and publishes every other number, so that two of these never agree on what is live."""
    with Registry.open(path) as registry:
        for number in range(first, first + 2 * ROUNDS, 2):
            made = registry.register(record("billing", number), **BY)
            registry.publish("billing", made.version, **BY)


def test_two_publishers_never_leave_two_live_versions_or_none(path: Path) -> None:
    with Registry.open(path) as registry:
        first = registry.register(record("billing", 10_000), **BY)
        registry.publish("billing", first.version, **BY)
        publishers = [SPAWN.Process(target=publish_in_turn, args=(path, start)) for start in (0, 1)]
        for publisher in publishers:
            publisher.start()
        looks = 0
        generation = registry.generation()
        while any(publisher.is_alive() for publisher in publishers):
            states = [r.state for r in registry.versions("billing")]
            assert states.count("live") == 1
            assert generation <= registry.generation()
            generation = registry.generation()
            looks += 1
        assert [publisher.exitcode for publisher in publishers] == [0, 0]
        assert looks > 1
        assert len(registry.versions("billing")) == 1 + 2 * ROUNDS
        published = [e for e in registry.history("billing", 10_000) if e.action == "publish"]
        assert len(published) == 1 + 2 * ROUNDS
        assert registry.live("billing").version == published[0].version
        assert registry.integrity() == []


def publish_builds_for_ever(path: Path, seed: int, started: Event) -> None:
    """Publishes base and child together; a child of another base than the live one would be half a build."""
    with Registry.open(path) as registry:
        number = 0
        while True:
            base = registry.register(record("base", 1_000_000 * seed + number), **BY)
            child = registry.register(record("child", 1_000_000 * seed + number, parent=base), **BY)
            registry.publish_many([("base", base.version), ("child", child.version)], **BY)
            if number % 5 == 4:
                registry.rollback("child", **BY)
                registry.publish("child", child.version, **BY)
            started.set()
            number += 1


def test_killing_a_publisher_leaves_a_whole_build_live(path: Path) -> None:
    draw = random.Random(7)
    for seed in range(5):
        started = SPAWN.Event()
        publisher = SPAWN.Process(target=publish_builds_for_ever, args=(path, seed, started))
        publisher.start()
        assert started.wait(30)
        time.sleep(draw.uniform(0.0, 0.08))
        assert publisher.pid is not None
        os.kill(publisher.pid, signal.SIGKILL)
        publisher.join()
        with Registry.open(path, busy_seconds=2) as registry:
            assert registry.integrity() == []
            child = registry.live("child")
            assert registry.chain(child)[-1] == child
            states = [r.state for r in registry.versions()]
            assert states.count("live") == 2
            after = registry.register(record("base", -seed - 1), **BY)
            assert registry.generation() > 0
            registry.revoke("base", after.version, **BY)


def test_readers_see_a_build_whole(path: Path) -> None:
    """Between any two reads of one registry call, base and child belong together."""
    started = SPAWN.Event()
    publisher = SPAWN.Process(target=publish_whole_builds, args=(path, started))
    with Registry.open(path) as registry:
        publisher.start()
        assert started.wait(30)
        while publisher.is_alive():
            live = {r.module_id: r for r in registry.versions() if r.state == "live"}
            parent = live["child"].parent
            assert parent is not None
            assert parent.version == live["base"].version
    assert publisher.exitcode == 0


def publish_whole_builds(path: Path, started: Event) -> None:
    with Registry.open(path) as registry:
        for number in range(40):
            base = registry.register(record("base", number), **BY)
            child = registry.register(record("child", number, parent=base), **BY)
            registry.publish_many([("base", base.version), ("child", child.version)], **BY)
            started.set()
