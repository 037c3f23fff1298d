"""What is told of an answer is its text up to its end, whoever decides where that is."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from quire.core import Delta
from quire.engine import Token
from quire.engine.sampling import Likelihood
from quire.engine.wording import Wording
from quire.model import LoadedModel

ids = st.lists(st.integers(3, 599), min_size=1, max_size=30)


def told(wording: Wording, tokens: list[Token]) -> list[Delta]:
    deltas = []
    for token in tokens:
        deltas.append(wording.push(token))
        if wording.stopped:
            break
    return deltas


@settings(max_examples=150, deadline=None)
@given(ids=ids, eos=st.booleans(), stops=st.lists(st.text("aeinst ", min_size=1, max_size=2), max_size=2))
def test_the_text_is_that_of_the_tokens_before_the_end(
    tiny_model: LoadedModel, ids: list[int], eos: bool, stops: list[str]
) -> None:
    tokenizer = tiny_model.tokenizer
    (end,) = tokenizer.eos_ids
    last = Token(end, reason="stop") if eos else Token(ids[-1], reason="length")
    said = ids if eos else ids[:-1]
    wording = Wording(tokenizer, stops)
    deltas = told(wording, [*(Token(i) for i in said), last])
    whole = tokenizer.decode(ids)
    ends = min((whole.find(s) for s in stops if s in whole), default=None)
    text = "".join(d.text for d in deltas)
    assert wording.stopped == (ends is not None)
    assert wording.completion == len(deltas)
    assert [t for d in deltas for t in d.token_ids] == [*ids, end][: len(deltas)]
    if ends is None:
        assert text == whole
        assert deltas[-1].finish_reason == last.reason
        assert (wording.whole, wording.said_ids, "".join(wording.said)) == (True, ids, whole)
    else:
        assert whole.startswith(text)
        assert not any(s in text for s in stops)
        assert not wording.whole
        assert deltas[-1].finish_reason in {None, "stop"}
        assert wording.close("cancelled").finish_reason == "stop"


def test_log_probabilities_get_the_texts_of_their_tokens(tiny_model: LoadedModel) -> None:
    piece = tiny_model.tokenizer.piece
    delta = Wording(tiny_model.tokenizer, ()).push(Token(40, Likelihood(-0.5, ((40, -0.5), (41, -2.0)))))
    (found,) = delta.logprobs
    assert (found.token_id, found.text, found.logprob) == (40, piece(40), -0.5)
    assert found.top == ((40, piece(40), -0.5), (41, piece(41), -2.0))


def test_what_is_cancelled_says_so(tiny_model: LoadedModel) -> None:
    wording = Wording(tiny_model.tokenizer, ["never"])
    wording.push(Token(40))
    assert wording.close("cancelled") == Delta("", finish_reason="cancelled")
    assert not wording.whole
