"""A conversation goes on where it was, within a bound of memory."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from quire.core import KVGeometry
from quire.engine import Sessions
from quire.model import KVSpace

GEOMETRY = KVGeometry(1, 1, 4, "float32")
BLOCK = 64 * GEOMETRY.bytes_per_token  # the smallest KV that holds anything


def sessions_of(max_bytes: int = 1 << 20, space: KVSpace | None = None) -> Sessions:
    return Sessions(space or KVSpace(GEOMETRY, 1024), max_bytes)


def used(sessions: Sessions, name: str, chain: str = "c", tokens: int = 5) -> None:
    session = sessions.take(name, chain)
    session.kv.reserve(tokens)
    session.kv.length += tokens
    session.token_ids += range(tokens)
    sessions.keep(session)


@settings(max_examples=100, deadline=None)
@given(old=st.lists(st.integers(0, 2), max_size=10), new=st.lists(st.integers(0, 2), min_size=1, max_size=10))
def test_what_two_turns_have_in_common_is_kept_and_one_token_is_left(old: list[int], new: list[int]) -> None:
    session = sessions_of().take("s", "c")
    session.kv.reserve(len(old))
    session.kv.length, session.token_ids = len(old), list(old)
    kept = session.resume(new)
    common = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    assert kept == min(common, len(new) - 1)
    assert session.kv.length == kept
    assert session.token_ids == new[:kept]


def test_the_longest_unused_sessions_go_first() -> None:
    sessions = sessions_of(2 * BLOCK)
    for name in ("a", "b"):
        used(sessions, name)
    used(sessions, "a")
    used(sessions, "c")
    assert len(sessions) == 2
    assert sessions.take("a", "c").kv.length == 10
    assert sessions.take("b", "c").kv.length == 0


def test_a_session_belongs_to_one_chain() -> None:
    space = KVSpace(GEOMETRY, 1024)
    sessions = sessions_of(space=space)
    used(sessions, "s", "one")
    assert sessions.take("s", "two").kv.length == 0
    assert space.used == 0


def test_a_session_in_use_is_not_given_out_again() -> None:
    sessions = sessions_of()
    used(sessions, "s")
    first, second = sessions.take("s", "c"), sessions.take("s", "c")
    assert first.kv is not second.kv
    assert second.kv.length == 0


def test_requests_that_compute_nothing_leave_nothing() -> None:
    sessions = sessions_of(0)
    for number in range(100):
        sessions.keep(sessions.take(f"s{number}", "c"))
    assert len(sessions) == 0
    roomy = sessions_of()
    for number in range(100):
        roomy.keep(roomy.take(f"s{number}", "c"))
    assert len(roomy) == 0


def test_replies_that_left_the_conversation_are_forgotten() -> None:
    sessions = sessions_of()
    used(sessions, "s")
    session = sessions.take("s", "c")
    for number in range(100):
        session.remember(str(number), [number])
    assert sessions.replies("s", ["3"]) == {}, "it is in use"
    sessions.keep(session)
    assert sessions.replies("s", ["3", "7", "new"]) == {"3": [3], "7": [7]}
    assert sessions.replies("s", ["3", "8"]) == {"3": [3]}
    assert sessions.replies("other", ["3"]) == {}


@settings(max_examples=60, deadline=None)
@given(
    turns=st.lists(
        st.tuples(st.sampled_from("abcde"), st.sampled_from(["one", "two"]), st.integers(0, 150), st.booleans())
    ),
    blocks=st.integers(0, 6),
)
def test_what_idle_sessions_hold_is_bounded_and_comes_back(
    turns: list[tuple[str, str, int, bool]], blocks: int
) -> None:
    space = KVSpace(GEOMETRY, 10_000)
    sessions = sessions_of(blocks * BLOCK, space)
    for name, chain, tokens, twice in turns:
        if twice:  # two requests of one session at once: whichever ends last is kept
            other = sessions.take(name, chain)
            used(sessions, name, chain, tokens)
            sessions.keep(other)
        used(sessions, name, chain, tokens)
        assert space.used * GEOMETRY.bytes_per_token <= blocks * BLOCK
    while sessions.drop_oldest():
        pass
    assert (space.used, len(sessions)) == (0, 0)
