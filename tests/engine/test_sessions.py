"""A conversation goes on where it was, within a bound of memory."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from quire.core import KVGeometry
from quire.engine import Sessions

GEOMETRY = KVGeometry(1, 1, 4, "float32")
BLOCK = 64 * GEOMETRY.bytes_per_token  # the smallest KV that holds anything


def used(sessions: Sessions, name: str, chain: str = "c", tokens: int = 5) -> None:
    session = sessions.take(name, chain)
    session.kv.reserve(tokens)
    session.kv.length += tokens
    session.token_ids += range(tokens)
    session.release()


@settings(max_examples=100, deadline=None)
@given(old=st.lists(st.integers(0, 2), max_size=10), new=st.lists(st.integers(0, 2), min_size=1, max_size=10))
def test_what_two_turns_have_in_common_is_kept_and_one_token_is_left(old: list[int], new: list[int]) -> None:
    session = Sessions(GEOMETRY, 1 << 20).take("s", "c")
    session.kv.reserve(len(old))
    session.kv.length, session.token_ids = len(old), list(old)
    kept = session.resume(new)
    common = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    assert kept == min(common, len(new) - 1)
    assert session.kv.length == kept
    assert session.token_ids == new[:kept]


def test_the_longest_unused_sessions_go_first() -> None:
    sessions = Sessions(GEOMETRY, 2 * BLOCK)
    for name in ("a", "b"):
        used(sessions, name)
    used(sessions, "a")
    used(sessions, "c")
    assert len(sessions) == 2
    assert sessions.take("a", "c").kv.length == 10
    assert sessions.take("b", "c").kv.length == 0


def test_a_session_belongs_to_one_chain() -> None:
    sessions = Sessions(GEOMETRY, 1 << 20)
    used(sessions, "s", "one")
    assert sessions.take("s", "two").kv.length == 0


def test_a_session_in_use_is_not_given_out_again() -> None:
    sessions = Sessions(GEOMETRY, 1 << 20)
    used(sessions, "s")
    first, second = sessions.take("s", "c"), sessions.take("s", "c")
    assert first.kv is not second.kv
    assert second.kv.length == 0


def test_requests_that_compute_nothing_leave_nothing() -> None:
    sessions = Sessions(GEOMETRY, 0)
    for number in range(100):
        sessions.take(f"s{number}", "c").release()
    assert len(sessions) == 0
    roomy = Sessions(GEOMETRY, 1 << 20)
    for number in range(100):
        roomy.take(f"s{number}", "c").release()
    assert len(roomy) == 0


def test_replies_that_left_the_conversation_are_forgotten() -> None:
    session = Sessions(GEOMETRY, 1 << 20).take("s", "c")
    session.replies = {str(number): [number] for number in range(100)}
    session.keep_replies(["3", "7", "new"])
    assert session.replies == {"3": [3], "7": [7]}
