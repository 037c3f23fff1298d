"""Completions: text that goes on."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from openai import OpenAI
from openai.types import Completion

from quire.access import LOCAL
from quire.answering import Question
from quire.core import Sampling
from quire.project import open_project

PROMPT = "\nThe price of a bolt is"


def complete(client: OpenAI, prompt: str | list[str] = PROMPT, **options: Any) -> Completion:
    completion: Completion = client.completions.create(model="quire", prompt=prompt, **options)
    return completion


def test_it_goes_on_as_the_project_does(client: OpenAI, shop: Path) -> None:
    with open_project(shop) as project:
        question = Question(prompt=PROMPT, sampling=Sampling(max_tokens=16))
        expected = project.runtime.answerer.ask(question, LOCAL)
        text = expected.text()
    completion = complete(client)
    assert completion.object == "text_completion"
    assert completion.choices[0].text == text
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 16
    assert completion.usage.prompt_tokens == expected.usage.prompt


def test_a_stream_says_the_same(client: OpenAI) -> None:
    options: dict[str, Any] = {"max_tokens": 8, "logprobs": 2}
    whole = complete(client, **options)
    chunks: list[Completion] = list(complete(client, stream=True, **options))  # type: ignore[arg-type]
    assert "".join(c.choices[0].text for c in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "length"
    shown = [c.choices[0].logprobs for c in chunks if c.choices[0].logprobs]
    assert whole.choices[0].logprobs is not None
    assert [t for s in shown for t in s.tokens or []] == whole.choices[0].logprobs.tokens
    assert [t for s in shown for t in s.text_offset or []] == whole.choices[0].logprobs.text_offset


def test_logprobs_in_parallel_lists(client: OpenAI) -> None:
    logprobs = complete(client, max_tokens=6, logprobs=2).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens
    assert logprobs.top_logprobs
    assert logprobs.token_logprobs
    assert logprobs.text_offset
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == 6
    assert logprobs.text_offset == [sum(len(t) for t in logprobs.tokens[:i]) for i in range(6)]
    for token, logprob, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
        assert top[token] == logprob == max(top.values())
    plain = complete(client, max_tokens=6, logprobs=0).choices[0].logprobs
    assert plain is not None
    assert plain.top_logprobs is None
    assert plain.tokens == logprobs.tokens


def test_several_prompts_may_go_to_several_modules(client: OpenAI) -> None:
    prompts = [PROMPT, "\nThe parcel arrives"]
    alone = [complete(client, prompt, max_tokens=5, n=2, temperature=1.0, seed=3) for prompt in prompts]
    both = complete(client, prompts, max_tokens=5, n=2, temperature=1.0, seed=3)
    assert [c.index for c in both.choices] == [0, 1, 2, 3]
    assert [c.text for c in both.choices] == [c.text for a in alone for c in a.choices]
    provenance = [(c.model_extra or {})["quire"]["module"] for c in both.choices]
    assert provenance == ["prices", "prices", "shipping", "shipping"]
    assert both.usage is not None
    assert both.usage.prompt_tokens == sum(a.usage.prompt_tokens for a in alone if a.usage)
    streamed: dict[int, str] = defaultdict(str)
    for chunk in complete(client, prompts, max_tokens=5, n=2, temperature=1.0, seed=3, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text  # type: ignore[attr-defined]
    assert [streamed[i] for i in range(4)] == [c.text for c in both.choices]


def test_a_stop_string(client: OpenAI) -> None:
    text = complete(client, max_tokens=40).choices[0].text
    stop = text[len(text) // 2 :][:3]
    cut = complete(client, max_tokens=40, stop=[stop]).choices[0]
    assert (cut.text, cut.finish_reason) == (text[: text.index(stop)], "stop")
