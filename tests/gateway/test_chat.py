"""Chat completions, through the official client."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from quire import Turn, open_project

from .process import Server

QUESTION = "What does a bolt cost?"


def ask(client: OpenAI, question: str = QUESTION, **options: Any) -> ChatCompletion:
    given = {"model": "quire", "max_tokens": 12, "messages": [{"role": "user", "content": question}], **options}
    answer: ChatCompletion = client.chat.completions.create(**given)
    return answer


def stream(client: OpenAI, question: str = QUESTION, **options: Any) -> list[ChatCompletionChunk]:
    return list(ask(client, question, stream=True, **options))  # type: ignore[arg-type]


def text_of(answer: ChatCompletion, index: int = 0) -> str:
    return answer.choices[index].message.content or ""


def said(chunks: list[ChatCompletionChunk]) -> dict[int, str]:
    """The streamed text of each answer."""
    texts: dict[int, str] = defaultdict(str)
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    return dict(texts)


def cached_tokens(answer: ChatCompletion) -> int:
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    return answer.usage.prompt_tokens_details.cached_tokens or 0


def test_it_says_what_the_project_says(client: OpenAI, shop: Path) -> None:
    with open_project(shop) as project:
        expected = project.ask(QUESTION, max_tokens=40)
        text = expected.text()
        usage = expected.usage
        provenance = expected.prepared.provenance()
    answer = ask(client, max_tokens=40)
    assert text_of(answer) == text
    assert answer.object == "chat.completion"
    assert answer.choices[0].finish_reason == expected.finish_reason
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == usage.prompt
    assert answer.usage.completion_tokens == usage.completion
    assert answer.usage.total_tokens == usage.prompt + usage.completion
    assert cached_tokens(answer) == usage.cached > 0
    assert answer.model_extra is not None
    told = answer.model_extra["quire"]
    assert set(told) == {*provenance, "repetition"}
    assert told["repetition"] == []
    for name in ("module", "version", "digest", "stage", "reason", "confidence", "restored_tokens"):
        assert told[name] == provenance[name]
    assert told["tier"] in {"warm", "cold"}


def test_a_stream_says_the_same_piece_by_piece(client: OpenAI) -> None:
    whole, chunks = ask(client), stream(client)
    assert said(chunks) == {0: text_of(whole)}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content == ""
    assert all(c.choices[0].delta.role is None for c in chunks[1:])
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason == "length"
    assert len({c.id for c in chunks}) == 1
    assert chunks[0].model_extra is not None
    assert whole.model_extra is not None
    assert chunks[0].model_extra["quire"]["digest"] == whole.model_extra["quire"]["digest"]
    assert all(c.usage is None for c in chunks)


def test_the_usage_of_a_stream_comes_last_when_asked_for(client: OpenAI) -> None:
    chunks = stream(client, stream_options={"include_usage": True})
    assert all(c.usage is None for c in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage == ask(client).usage


def test_a_stream_on_the_wire(server: Server) -> None:
    body = {"model": "quire", "max_tokens": 3, "stream": True, "messages": [{"role": "user", "content": QUESTION}]}
    response = server.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith('data: {"') for event in events[:-2])


@pytest.mark.parametrize("as_list", [False, True])
def test_a_stop_string_ends_the_answer_before_it(client: OpenAI, as_list: bool) -> None:
    text = text_of(ask(client, max_tokens=60))
    stop = text[len(text) // 2 :][:4]
    answer = ask(client, max_tokens=60, stop=["never said", stop] if as_list else stop)
    assert text_of(answer) == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    assert said(stream(client, max_tokens=60, stop=stop)) == {0: text_of(answer)}


def test_logprobs_are_those_of_the_tokens(client: OpenAI) -> None:
    answer = ask(client, logprobs=True, top_logprobs=3)
    assert answer.choices[0].logprobs is not None
    tokens = answer.choices[0].logprobs.content or []
    assert answer.usage is not None
    assert len(tokens) == answer.usage.completion_tokens
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token  # greedy
        assert [t.logprob for t in token.top_logprobs] == sorted((t.logprob for t in token.top_logprobs), reverse=True)
        assert token.logprob == token.top_logprobs[0].logprob < 0
        assert token.bytes is None or bytes(token.bytes).decode() == token.token
    streamed = stream(client, logprobs=True, top_logprobs=3)
    pieces = [c.choices[0].logprobs for c in streamed if c.choices[0].logprobs]
    assert [t for piece in pieces for t in piece.content or []] == tokens
    assert ask(client).choices[0].logprobs is None


def test_logprobs_without_alternatives(client: OpenAI) -> None:
    answer = ask(client, logprobs=True)
    assert answer.choices[0].logprobs is not None
    assert all(t.top_logprobs == [] for t in answer.choices[0].logprobs.content or [])


def test_n_answers_have_seeds_that_count_up(client: OpenAI) -> None:
    options: dict[str, Any] = {"temperature": 1.0, "max_tokens": 10}
    several = ask(client, n=3, seed=7, **options)
    alone = [ask(client, seed=seed, **options) for seed in (7, 8, 9)]
    assert [c.index for c in several.choices] == [0, 1, 2]
    assert [text_of(several, i) for i in range(3)] == [text_of(a) for a in alone]
    assert len({text_of(several, i) for i in range(3)}) == 3
    assert said(stream(client, n=3, seed=7, **options)) == {i: text_of(several, i) for i in range(3)}
    assert several.usage is not None
    assert alone[0].usage is not None
    assert several.usage.prompt_tokens == alone[0].usage.prompt_tokens
    assert several.usage.completion_tokens == sum(a.usage.completion_tokens for a in alone if a.usage)


def test_it_is_greedy_unless_told_otherwise(client: OpenAI) -> None:
    assert text_of(ask(client)) == text_of(ask(client, temperature=0)) == text_of(ask(client, temperature=None))
    hot = {text_of(ask(client, temperature=1.5)) for _ in range(4)}
    assert len(hot) > 1


def test_sampling_fields_reach_the_engine(client: OpenAI) -> None:
    plain = text_of(ask(client))
    assert text_of(ask(client, temperature=2.0, extra_body={"top_k": 1})) == plain
    assert text_of(ask(client, temperature=2.0, extra_body={"min_p": 1.0})) == plain
    assert text_of(ask(client, temperature=2.0, top_p=1e-4)) == plain
    assert text_of(ask(client, extra_body={"repetition_penalty": 50.0}, max_tokens=60)) != text_of(
        ask(client, max_tokens=60)
    )
    assert (
        text_of(ask(client, logit_bias={"40": 100}, max_tokens=4))
        == text_of(ask(client, logit_bias={"40": 100}, max_tokens=1)) * 4
    )
    penalized = ask(client, logit_bias={"40": 1}, frequency_penalty=2.0, presence_penalty=2.0)
    assert penalized.choices[0].finish_reason == "length"


def test_limits_by_both_names(client: OpenAI) -> None:
    for options in ({"max_tokens": 5}, {"max_tokens": None, "max_completion_tokens": 5}):
        answer = ask(client, extra_body={"ignore_eos": True}, **options)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 5
        assert answer.choices[0].finish_reason == "length"


def test_roles_and_parts(client: OpenAI, shop: Path) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What does"}, {"type": "text", "text": "a bolt cost?"}]},
    ]
    with open_project(shop) as project:
        turns = [Turn("system", "Be brief."), Turn("user", "What does\na bolt cost?")]
        expected = project.chat(turns, max_tokens=12).text()
    assert text_of(ask(client, messages=messages)) == expected


def test_an_answer_can_be_sent_back_as_it_came(client: OpenAI) -> None:
    first = ask(client)
    messages = [
        {"role": "user", "content": QUESTION},
        first.choices[0].message.model_dump(),
        {"role": "user", "content": "And the price of a nut?"},
    ]
    assert text_of(ask(client, messages=messages))


def test_a_session_does_not_compute_earlier_turns_again(client: OpenAI) -> None:
    session = {"quire": {"session": "test-session"}}
    messages: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
    first = ask(client, messages=messages, extra_body=session)
    messages += [{"role": "assistant", "content": text_of(first)}, {"role": "user", "content": "And a bolt of brass?"}]
    kept, anew = ask(client, messages=messages, extra_body=session), ask(client, messages=messages)
    assert cached_tokens(kept) > cached_tokens(anew)


@pytest.mark.parametrize(
    ("options", "module", "stage"),
    [
        ({"question": "Where is my parcel?"}, "shipping", "rule"),
        ({"extra_body": {"quire": {"module": "shipping"}}}, "shipping", "explicit"),
        ({"model": "quire/company"}, "company", "explicit"),
    ],
)
def test_who_answers(client: OpenAI, options: dict[str, Any], module: str, stage: str) -> None:
    answer = ask(client, **options)
    assert answer.model_extra is not None
    assert answer.model_extra["quire"]["module"] == module
    assert answer.model_extra["quire"]["stage"] == stage


def test_the_model_goes_by_its_own_name_too(client: OpenAI, tiny_model_dir: Path) -> None:
    answer = ask(client, model=tiny_model_dir.name)
    assert answer.model == ask(client).model == tiny_model_dir.name


def test_harmless_fields_are_ignored(client: OpenAI) -> None:
    harmless: dict[str, Any] = {
        "user": "ann",
        "metadata": {"a": "b"},
        "store": False,
        "service_tier": "auto",
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "modalities": ["text"],
        "parallel_tool_calls": True,
        "prompt_cache_key": "k",
    }
    assert text_of(ask(client, **harmless)) == text_of(ask(client))


def test_an_answer_in_a_loop_ends_with_length_and_says_why(client: OpenAI) -> None:
    """One token over and over. Clients know no finish reason of that name."""
    answer = ask(client, max_tokens=600, n=2, logit_bias={"300": 100})
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2 * 256
    assert answer.model_extra is not None
    assert answer.model_extra["quire"]["repetition"] == [0, 1]
    chunks = stream(client, max_tokens=600, logit_bias={"300": 100})
    assert said(chunks)[0] == text_of(answer)
    assert [c.choices[0].finish_reason for c in chunks[-2:]] == [None, "length"]
    assert (chunks[-1].model_extra or {})["quire"] == {"repetition": [0]}
    assert "repetition" not in (chunks[0].model_extra or {})["quire"]
