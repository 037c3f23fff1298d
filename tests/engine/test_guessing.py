"""Where guesses come from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quire.engine.guessing import LATEST, Guesser, Phrases, StepTimes

texts = st.lists(st.integers(0, 3), max_size=60)


@given(chain=texts, said=texts, most=st.integers(0, 9), cost=st.floats(0.01, 0.99))
def test_a_guess_has_followed_the_last_tokens_before(chain: list[int], said: list[int], most: int, cost: float) -> None:
    guess = Guesser(Phrases(chain)).guess(said, most, cost)
    assert len(guess) <= most
    if guess:
        wanted = [*said[-2:], *guess]
        assert any(
            text[at : at + len(wanted)] == wanted for text in (chain, said) for at in range(len(text) - len(wanted) + 1)
        )


def test_the_longest_agreement_wins_and_of_equal_ones_the_latest() -> None:
    chain = [1, 2, 3, 50, 9, 2, 3, 60, 2, 3, 70]
    assert Guesser(Phrases(chain)).guess([7, 9, 2, 3], 1, 0.1) == [60]
    assert Guesser(Phrases(chain)).guess([7, 7, 2, 3], 1, 0.1) == [70]
    assert Guesser(Phrases(chain)).guess([2, 3, 80, 2, 3], 1, 0.1) == [80], "what was said last is nearest"


def test_guesses_grow_and_shrink_with_what_came_of_them() -> None:
    chain = list(range(20)) * 2
    lucky, unlucky = Guesser(Phrases(chain)), Guesser(Phrases(chain))
    for _ in range(30):
        lucky.learn(4, 4)
        unlucky.learn(4, 0)
    lengths = [len(guesser.guess([30, 0, 1], 8, 0.1)) for guesser in (lucky, Guesser(Phrases(chain)), unlucky)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[2]


def test_a_text_full_of_one_pair_is_not_searched_to_its_beginning() -> None:
    assert len(Phrases([5] * 10_000).after(5, 5)) < LATEST + 1


def test_short_chains_have_no_phrases() -> None:
    for chain in ([], [1], [1, 2]):
        assert Guesser(Phrases(chain)).guess([1, 2], 4, 0.1) == []


@given(
    fixed=st.floats(2, 60), share=st.floats(1e-5, 1e-1), steps=st.lists(st.integers(1, 64), min_size=2, max_size=300)
)
def test_the_cost_of_a_token_is_that_of_the_steps_before(fixed: float, share: float, steps: list[int]) -> None:
    """`share`: seconds of a token."""
    times, start = StepTimes(), StepTimes().fixed
    for tokens in steps:
        times.note(tokens, (fixed + tokens) * share)
    if len(set(steps[-50:])) == 1 and len(set(steps)) == 1:
        assert times.fixed == start, "steps that are all alike say nothing"
    elif times.fixed != start:
        assert abs(times.fixed - fixed) < 0.01 * fixed
        assert abs(times.cost(8) - 8 / (8 + fixed)) < 0.01
    assert 0 < times.cost(1) < times.cost(64) < 1


def test_steps_that_take_longer_for_no_reason_and_long_prefills_say_nothing() -> None:
    times = StepTimes()
    start = times.fixed
    for tokens, seconds in ((1, 0.2), (64, 0.1), (1, 0.3), (500, 9.0)):
        times.note(tokens, seconds)
    assert times.fixed == start
