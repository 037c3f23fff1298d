"""Where guesses come from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quire.engine.guessing import LATEST, Guesser, Phrases

texts = st.lists(st.integers(0, 3), max_size=60)


@given(chain=texts, said=texts, most=st.integers(0, 9), company=st.integers(1, 70))
def test_a_guess_has_followed_the_last_tokens_before(
    chain: list[int], said: list[int], most: int, company: int
) -> None:
    guess = Guesser(Phrases(chain)).guess(said, most, company)
    assert len(guess) <= most
    if guess:
        wanted = [*said[-2:], *guess]
        assert company < 64
        assert any(
            text[at : at + len(wanted)] == wanted for text in (chain, said) for at in range(len(text) - len(wanted) + 1)
        )


def test_the_longest_agreement_wins_and_of_equal_ones_the_latest() -> None:
    chain = [1, 2, 3, 50, 9, 2, 3, 60, 2, 3, 70]
    assert Guesser(Phrases(chain)).guess([7, 9, 2, 3], 1, 1) == [60]
    assert Guesser(Phrases(chain)).guess([7, 7, 2, 3], 1, 1) == [70]
    assert Guesser(Phrases(chain)).guess([2, 3, 80, 2, 3], 1, 1) == [80], "what was said last is nearest"


def test_guesses_grow_and_shrink_with_what_came_of_them() -> None:
    chain = list(range(20)) * 2
    lucky, unlucky = Guesser(Phrases(chain)), Guesser(Phrases(chain))
    for _ in range(30):
        lucky.learn(4, 4)
        unlucky.learn(4, 0)
    lengths = [len(guesser.guess([30, 0, 1], 8, 8)) for guesser in (lucky, Guesser(Phrases(chain)), unlucky)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[2]


def test_a_text_full_of_one_pair_is_not_searched_to_its_beginning() -> None:
    assert len(Phrases([5] * 10_000).after(5, 5)) < LATEST + 1


def test_short_chains_have_no_phrases() -> None:
    for chain in ([], [1], [1, 2]):
        assert Guesser(Phrases(chain)).guess([1, 2], 4, 1) == []
