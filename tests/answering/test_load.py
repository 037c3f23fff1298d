"""Many at once say what each would say alone, and many after each other leave nothing behind."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from typing import Any

import psutil

from quire import Project

WORDS = ["bolt", "nut", "parcel", "why", "when", "who", "日本", "<|im_end|>"]


def request(draw: random.Random) -> dict[str, Any]:
    question = " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 60)))
    return {
        "question": question,
        "module": draw.choice(["company", "prices", "shipping"]),
        "max_tokens": draw.randint(1, 24),
        "ignore_eos": True,
    }


def ask(project: Project, options: dict[str, Any]) -> list[int]:
    answer = project.ask(**options)
    answer.text()
    return answer.token_ids


def living() -> int:
    """Objects there are; SQLite's connections collect dead weak references and drop them by the hundred."""
    return sum(type(thing) is not weakref.ReferenceType for thing in gc.get_objects())


def test_thirty_two_requests_at_once_say_what_each_says_alone(open_shop: Project) -> None:
    draw = random.Random(1)
    requests = [request(draw) for _ in range(32)]
    alone = [ask(open_shop, options) for options in requests]
    together: dict[int, list[int]] = {}
    ready = threading.Barrier(len(requests))

    def run(number: int) -> None:
        ready.wait()
        together[number] = ask(open_shop, requests[number])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together.get(number) for number in range(len(requests))] == alone
    state = open_shop.runtime.pool.state()
    assert (state.leases, state.modules) == (0, 3)


def test_two_hundred_requests_leave_nothing_behind(open_shop: Project) -> None:
    draw = random.Random(2)

    def run(count: int) -> None:
        for number in range(count):
            answer = open_shop.ask(**(request(draw) | {"max_tokens": draw.randint(1, 6)}))
            if number % 3 == 0:
                answer.cancel()
            answer.text()
        assert open_shop.recorder.flush(), "records that wait are objects too"
        gc.collect()

    run(100)  # libraries fill their own tables meanwhile
    process = psutil.Process()
    objects, resident = living(), process.memory_info().rss
    run(100)
    assert living() - objects < 100
    assert process.memory_info().rss - resident < 16 << 20
    assert open_shop.runtime.pool.state().leases == 0


def test_an_answer_that_is_kept_does_not_keep_its_kv(open_shop: Project) -> None:
    kept = [open_shop.ask("Why?", module="prices", max_tokens=2) for _ in range(5)]
    for answer in kept:
        answer.text()
        assert answer._ticket.run.kv.nbytes == 0
