"""What one tenant sends is that tenant's affair: the others get their share, in tokens, whatever it does.

The schedule is driven step by step on the real engine, without its thread, so that every figure is exact.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire import Project
from quire.access import Principal
from quire.errors import EngineBusy
from quire.model.kv import GRAIN
from quire.scheduler import Ticket
from quire.scheduler.fairness import Accounts, share_by_tenant, soonest
from quire.scheduler.schedule import BESIDE

from .driving import Passes, Steps, leases, own_tokens, scheduling

FLOOD, CALM = (Principal(tenant, roles=frozenset({"operator"})) for tenant in ("flood", "calm"))


@pytest.fixture
def steps(project: Project) -> Iterator[Steps]:
    made = Steps(project)
    yield made
    made.close()
    assert leases(project) == 0


ANSWER, PLACES = 12, 16


def latencies(project: Project, flood: bool) -> tuple[list[int], list[int]]:
    """Steps to the first token and to the end of 100 requests of `calm`, which sends half of its share at random, so
    that some come together, beside another that does so too or always has more waiting."""
    made = Steps(project, max_sequences=PLACES, step_tokens=256)
    asked: dict[Ticket, int] = {}
    draw = random.Random(8)
    mean = PLACES / 2 / ANSWER / 2  # requests in each step
    due = dict.fromkeys(("calm", "other"), 0.0)
    while len(asked) < 100:
        for tenant in due:
            while due[tenant] <= made.step_number and not (flood and tenant == "other"):
                ticket = made.ask(tenant, ANSWER, text=f"{len(asked)}?")
                asked |= {ticket: made.step_number} if tenant == "calm" else {}
                due[tenant] += draw.expovariate(mean)
        while flood and made.schedule.waiting.count("other") < PLACES:
            made.ask("other", ANSWER, text="?")
        made.step()
    while not all(ticket in made.ended for ticket in asked):
        made.step()
    made.close()
    assert made.computed["other"] > (made.computed["calm"] if flood else 0)
    first = sorted(made.began[ticket] - at for ticket, at in asked.items())
    return first, sorted(made.ended[ticket] - at for ticket, at in asked.items())


def test_ten_times_its_share_does_not_slow_another_by_half(project: Project) -> None:
    for calm, flooded in zip(latencies(project, False), latencies(project, True), strict=True):
        for percent in (50, 95):
            at = len(calm) * percent // 100
            assert flooded[at] <= 1.5 * calm[at], (calm, flooded)


def running(steps: Steps) -> Counter[str]:
    return Counter(ticket.tenant for ticket in steps.schedule.running)


def test_who_comes_with_many_at_once_may_have_more_than_its_share_if_it_had_less_before(steps: Steps) -> None:
    """A quarter of the places on top of its half; not for ever, and not again before it has left some unused."""
    for number in range(90):
        steps.ask("flood", 20, text=f"a{number}")
    for _ in range(5):
        steps.step()
    burst = [steps.ask("calm", 20, text=f"b{number}") for number in range(24)]
    for _ in range(12):
        steps.step()
        assert running(steps) == {"calm": 6, "flood": 2}, "a place that was lent is not asked back"
    while not all(ticket in steps.ended for ticket in burst[:6]):
        steps.step()
    while not all(ticket in steps.ended for ticket in burst):
        assert running(steps)["calm"] <= 4
        steps.step()


def test_who_keeps_to_its_share_lends_no_place(steps: Steps) -> None:
    """It has what it is due and nothing that waits: others' savings are not used up at its expense."""
    for number in range(4):
        steps.ask("even", 20, text=f"a{number}")
    burst = [steps.ask("burst", 20, text=f"b{number}") for number in range(8)]
    while not any(ticket in steps.ended for ticket in burst):
        steps.step()
    assert steps.schedule.preemptions == 0


def test_whose_place_is_taken_goes_on_where_it_was(steps: Steps) -> None:
    asked = [steps.ask("flood", 20, text=f"a{number}") for number in range(8)]
    for _ in range(5):
        steps.step()
    asked += [steps.ask("calm", 20, text=f"b{number}") for number in range(4)]
    while steps.schedule.running or steps.schedule.waiting:
        steps.step()
    assert steps.schedule.preemptions == 4
    first = sum(t.run.most - 1 for t in asked[:8])  # all of them read what every conversation begins with
    assert steps.computed["flood"] == first, "nothing was computed twice"
    assert steps.computed["calm"] == 4 * (own_tokens(asked[8]) + 19)


def test_kv_of_those_who_wait_makes_room_before_anybody_gives_way(project: Project) -> None:
    made = Steps(project, max_sequences=2, room=4 * GRAIN)
    flood = [made.ask("flood", GRAIN // 2, text=f"a{number}") for number in range(2)]
    made.step()
    calm = made.ask("calm", 2 * GRAIN + GRAIN // 2)
    while calm not in made.ended:
        made.step()
        assert made.engine.room()[0] <= 4 * GRAIN
    while not all(ticket in made.ended for ticket in flood):
        made.step()
    assert made.schedule.preemptions == 1, "of the one whose place was taken"
    assert made.engine.room()[0] == 0


def test_questions_of_a_crowd_do_not_lengthen_the_steps_of_others(project: Project) -> None:
    made = Steps(project, max_sequences=16, step_tokens=256)
    for number in range(90):
        made.ask("crowd", 4, text=f"{number}: " + "What? " * 9)
    made.step()
    assert made.computed["crowd"] == 256, "alone it has all of a step"
    calm = made.ask("calm", 12)
    most = 0
    while calm not in made.ended:
        before = made.computed["crowd"]
        made.step()
        most = max(most, made.computed["crowd"] - before)
    assert made.schedule.waiting.count("crowd"), "it wanted more all the time"
    assert BESIDE < most <= BESIDE + made.schedule._most
    made.close()


def test_backlogs_are_served_in_turn_by_tokens_and_not_by_requests(steps: Steps) -> None:
    """One tenant's answers are five times as long; both get the same number of tokens."""
    for number in range(60):
        steps.ask("long", 100, text=f"a{number}")
        steps.ask("short", 20, text=f"b{number}")
        steps.ask("short", 20, text=f"c{number}")
    for _ in range(400):
        steps.step()
    assert min(map(steps.schedule.waiting.count, ("long", "short"))) > 0, "both want more all the time"
    assert steps.computed["long"] == pytest.approx(steps.computed["short"], rel=0.1)


@pytest.mark.parametrize("weight", [2, 4])
def test_a_weight_is_a_share_of_the_tokens(steps: Steps, weight: int) -> None:
    for number in range(120):
        steps.ask("heavy", 20, weight=weight, text=f"a{number}")
        steps.ask("light", 20, text=f"b{number}")
    for _ in range(200):
        steps.step()
    assert min(map(steps.schedule.waiting.count, ("heavy", "light"))) > 0
    assert steps.computed["heavy"] / steps.computed["light"] == pytest.approx(weight, rel=0.25)
    assert steps.computed["light"] > 0, "a small share is one"


def test_nobody_saves_up_turns_and_nobody_pays_for_an_engine_that_stood_idle(steps: Steps) -> None:
    for number in range(40):
        steps.ask("early", 30, text=f"a{number}")
    for _ in range(60):
        steps.step()  # alone, as much as it likes
    before = steps.computed["early"]
    for number in range(60):
        steps.ask("late", 30, text=f"b{number}")
    for _ in range(100):
        steps.step()
    early, late = steps.computed["early"] - before, steps.computed["late"]
    assert early == pytest.approx(late, rel=0.35), "from then on they are equal, but for what was running"
    assert min(early, late) > 200


def test_who_is_always_there_saves_up_nothing_either(steps: Steps) -> None:
    """One request after another, never one that waits; then a flood of its own. It gets its share, and no arrears."""
    for number in range(120):
        steps.ask("flood", 30, text=f"a{number}")
    for number in range(150):
        if number % 20 == 0:
            steps.ask("quiet", 30, text=f"b{number}")
        steps.step()
    assert steps.computed["quiet"] < steps.computed["flood"] / 2
    before = dict(steps.computed)
    for number in range(60):
        steps.ask("quiet", 30, text=f"c{number}")
        steps.ask("flood", 30, text=f"d{number}")
    for _ in range(100):
        steps.step()
    quiet, flood = (steps.computed[name] - before[name] for name in ("quiet", "flood"))
    assert quiet == pytest.approx(flood, rel=0.3)


def test_a_single_tenant_is_served_in_order_of_arrival(steps: Steps) -> None:
    tickets = [steps.ask("only", 5, text=f"{number}?") for number in range(40)]
    while len(steps.ended) < len(tickets):
        steps.step()
    ends = [steps.ended[ticket] for ticket in tickets]
    assert ends == sorted(ends)


def test_when_room_runs_out_the_tenant_that_takes_most_gives_way(project: Project) -> None:
    made = Steps(project, room=12 * GRAIN)
    modest = made.ask("modest", 2 * GRAIN)
    greedy = [made.ask("greedy", 6 * GRAIN, text=f"{number}!") for number in range(4)]
    gave_way: set[str] = set()
    while made.schedule.running or made.schedule.waiting:
        running = set(made.schedule.running)
        made.step()
        gave_way |= {t.tenant for t in running - set(made.schedule.running) if t not in made.ended}
    assert made.schedule.preemptions > 0
    assert gave_way == {"greedy"}
    assert made.ended[modest] < min(made.ended[ticket] for ticket in greedy)
    assert {len(t.run.token_ids) == t.run.most for t in (modest, *greedy)} == {True}, "and all of them end"


@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_in_the_tightest_room_everybody_ends(project: Project, seed: int) -> None:
    """Tenants of all weights push each other out, and somebody always gets on."""
    draw = random.Random(seed)
    made = Steps(project, room=draw.choice([4, 5, 7]) * GRAIN, step_tokens=draw.choice([16, 40]))
    weights = {"a": 1, "b": 4, "c": 16}
    tickets = [
        made.ask(tenant, draw.randint(1, 2 * GRAIN), weight=weights[tenant], text="Why? " * draw.randint(1, 20))
        for tenant in draw.choices("abc", k=12)
    ]
    for _ in range(6000):
        if len(made.ended) == len(tickets):
            break
        made.step()
    assert len(made.ended) == len(tickets)
    assert made.schedule.preemptions > 0
    assert made.engine.room()[0] == 0


def test_a_flood_that_fills_the_queue_loses_its_own_place(project: Project, passes: Passes) -> None:
    with scheduling(project, max_sequences=1, queue=4) as (scheduler, submit):
        with passes.held():
            first = submit(principal=FLOOD)[1]
            while not scheduler.load().running:
                time.sleep(0.001)
            flood = [submit(principal=FLOOD)[1] for _ in range(4)]
            with pytest.raises(EngineBusy):
                submit(principal=FLOOD)
            with pytest.raises(EngineBusy):
                scheduler.check_queue("flood", 1)
            scheduler.check_queue("calm", 1)
            calm = submit(principal=CALM)[1]
            with pytest.raises(EngineBusy):
                submit(principal=FLOOD)
        assert calm.reason == "length"
        assert first.reason == "length"
        assert [inbox.reason for inbox in flood] == ["length"] * (len(flood) - 1) + ["engine_busy"]
    assert leases(project) == 0


PENDING = st.lists(st.tuples(st.integers(1, 300), st.sampled_from("abc")), min_size=1, max_size=40)
WEIGHTS = st.fixed_dictionaries({name: st.sampled_from([1, 4, 16]) for name in "abc"})


@settings(max_examples=300, deadline=None)
@given(items=PENDING, weights=WEIGHTS, more=st.integers(0, 500))
def test_a_step_is_shared_by_weight_and_within_by_who_is_done_soonest(
    items: list[tuple[int, str]], weights: Mapping[str, int], more: int
) -> None:
    pending, tenants = [count for count, _ in items], [tenant for _, tenant in items]
    budget = len(pending) + more
    shares = share_by_tenant(budget, pending, tenants, dict(weights))
    assert sum(shares) == min(budget, sum(pending))
    assert all(1 <= got <= wanted for got, wanted in zip(shares, pending, strict=True))
    extra = Counter[str]()
    for got, tenant in zip(shares, tenants, strict=True):
        extra[tenant] += got - 1
    for tenant in set(tenants):
        mine = [(s, p) for s, p, t in zip(shares, pending, tenants, strict=True) if t == tenant]
        short = [s for s, p in mine if s < p]
        if short:
            for other in set(tenants) - {tenant}:  # nobody has more for its weight, but for the rounding of each part
                assert (extra[other] - 2) / weights[other] <= (extra[tenant] + 1) / weights[tenant]
    if len(set(tenants)) == 1:
        alone = soonest(more, [count - 1 for count in pending])
        assert shares == [1 + got for got in alone], "alone it is as if there were no tenants"


def test_accounts_of_those_who_left_are_forgotten_once_they_are_even() -> None:
    accounts = Accounts(0)
    accounts.arrive("a", 1, [], [])
    accounts.charge("a", 100)
    accounts.arrive("b", 4, ["a"], ["a"])
    assert accounts.standing("b", 0) == accounts.standing("a", 0) == 100
    accounts.charge("b", 400)
    accounts.arrive("c", 1, ["a"], [])
    assert accounts.standing("c", 0) == 100
    accounts.arrive("b", 4, ["a", "c"], [])
    assert accounts.standing("b", 0) == 200, "who comes back has had what it had"
    for number in range(50):
        accounts.arrive(f"x{number}", 1, ["a"], [])
    accounts.arrive("d", 1, [], [])
    assert accounts.standing("d", 0) == 0, "an idle engine begins anew"


def test_what_a_tenant_leaves_unused_is_saved_up_to_a_bound() -> None:
    accounts = Accounts(300)
    accounts.arrive("flood", 1, [], [])
    accounts.charge("flood", 300)
    accounts.arrive("calm", 2, ["flood"], ["flood"])
    assert (accounts.saved("flood"), accounts.saved("calm")) == (0, 300), "who comes for the first time has them all"
    accounts.charge("calm", 350)
    assert (accounts.saved("calm"), accounts.standing("calm", 0)) == (0, 25), "savings first"
    accounts.charge("flood", 75)
    accounts.arrive("calm", 2, ["flood"], ["flood", "calm"])
    assert (accounts.saved("calm"), accounts.standing("calm", 0)) == (100, 25), "50 behind, by a weight of two"
    accounts.charge("flood", 10_000)
    accounts.arrive("calm", 2, ["flood", "calm"], ["flood", "calm"])
    assert accounts.saved("calm") == 100, "who waits leaves nothing unused"
    accounts.arrive("calm", 2, ["flood"], ["flood", "calm"])
    assert accounts.saved("calm") == 300
