"""One request's way from checked fields to a response, the same for both ways of asking."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from quire.errors import QuireError
from quire.gateway.authentication import principal_of
from quire.gateway.error_bodies import note
from quire.gateway.generation import Generation
from quire.gateway.passage import passage_of
from quire.gateway.stale import answer_headers
from quire.gateway.streaming import DONE, EventStream, event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from quire.answering import Question
    from quire.core import FinishReason, TokenLogprob, Usage
    from quire.gateway.gateway import Gateway
    from quire.gateway.schemas import AnswerFields

Choice = dict[str, Any]


class AnswerForm(ABC):
    """How answers look as JSON. One for each request: a form may remember what it has shown."""

    prefix: str  # of the response's id
    whole_kind: str  # `object` of a whole response
    piece_kind: str  # `object` of a piece of a stream

    @abstractmethod
    def whole(self, index: int, text: str, logprobs: Sequence[TokenLogprob] | None, reason: str) -> Choice:
        """A complete answer."""

    @abstractmethod
    def opening(self, index: int) -> Choice:
        """The first piece of an answer, before any text."""

    @abstractmethod
    def piece(self, index: int, text: str, logprobs: Sequence[TokenLogprob] | None) -> Choice:
        """Some more text. Mutates what the form remembers."""

    @abstractmethod
    def closing(self, index: int, reason: str) -> Choice:
        """The last piece of an answer, after all text."""


async def respond(request: Request, fields: AnswerFields, questions: Sequence[Question], form: AnswerForm) -> Response:
    """Answer `questions`, whole or as a stream. Raises what `Generation.begin` and `Generation.deltas` raise."""
    gateway: Gateway = request.app.state.gateway
    passage, principal = passage_of(request), principal_of(request)
    generation = await Generation.begin(gateway, passage, principal, questions, fields.n, request.receive)
    written = Writing(generation, form, gateway.model_name, logprobs=questions[0].sampling.logprobs is not None)
    passage.answer_id, passage.streamed = written.answer_id, fields.stream
    if fields.stream:
        events = _guarded(written.events(include_usage=fields.include_usage), request)
        return EventStream(events, generation)
    try:
        return JSONResponse(await written.body(), headers=answer_headers(generation))
    finally:
        generation.close()


class Writing:
    """A generation written in a form."""

    def __init__(self, generation: Generation, form: AnswerForm, model: str, *, logprobs: bool) -> None:
        self._generation = generation
        self._form = form
        self._logprobs = logprobs
        self._head = {"id": f"{form.prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    @property
    def answer_id(self) -> str:
        return str(self._head["id"])

    async def body(self) -> dict[str, Any]:
        """The JSON value of a whole response."""
        texts: dict[int, list[str]] = {}
        logprobs: dict[int, list[TokenLogprob]] = {}
        reasons: dict[int, str] = {}
        async for index, delta in self._generation.deltas():
            texts.setdefault(index, []).append(delta.text)
            logprobs.setdefault(index, []).extend(delta.logprobs)
            if delta.finish_reason:
                reasons[index] = openai_reason(delta.finish_reason)
        choices = [
            self._form.whole(i, "".join(texts[i]), logprobs[i] if self._logprobs else None, reasons[i])
            for i in sorted(reasons)
        ]
        for choice in choices:
            self._add_own_provenance(choice)
        return {
            **self._head,
            "object": self._form.whole_kind,
            "choices": choices,
            "usage": usage_body(self._generation.usage),
            "quire": {**self._generation.provenance(), "repetition": self._generation.repeating},
        }

    async def events(self, *, include_usage: bool) -> AsyncIterator[bytes]:
        """The server-sent events of a stream, the end mark included."""
        seen: set[int] = set()
        async for index, delta in self._generation.deltas():
            if index not in seen:
                opening = self._form.opening(index)
                self._add_own_provenance(opening)
                provenance = None if seen else self._generation.provenance()
                yield self._event([opening], include_usage, quire=provenance)
                seen.add(index)
            if delta.text or delta.logprobs:
                logprobs = delta.logprobs if self._logprobs else None
                yield self._event([self._form.piece(index, delta.text, logprobs)], include_usage)
            if delta.finish_reason:
                closing = self._form.closing(index, openai_reason(delta.finish_reason))
                repeated = delta.finish_reason == "repetition"
                yield self._event([closing], include_usage, quire={"repetition": [index]} if repeated else None)
        if include_usage:
            yield event({**self._frame([]), "usage": usage_body(self._generation.usage)})
        yield DONE

    def _event(self, choices: list[Choice], include_usage: bool, *, quire: dict[str, Any] | None = None) -> bytes:
        frame = self._frame(choices)
        if include_usage:
            frame["usage"] = None
        if quire is not None:
            frame["quire"] = quire
        return event(frame)

    def _frame(self, choices: list[Choice]) -> dict[str, Any]:
        return {**self._head, "object": self._form.piece_kind, "choices": choices}

    def _add_own_provenance(self, choice: Choice) -> None:
        """Several prompts may have gone to several modules."""
        if self._generation.prompts > 1:
            choice["quire"] = self._generation.provenance(choice["index"])


def openai_reason(reason: FinishReason) -> str:
    """The finish reason that OpenAI's clients know: an answer that was ended in a loop is not whole."""
    return "length" if reason == "repetition" else reason


async def _guarded(events: AsyncIterator[bytes], request: Request) -> AsyncIterator[bytes]:
    """The events; an error ends them as one more event, since the status has been sent long ago."""
    try:
        async for item in events:
            yield item
    except QuireError as error:
        yield event(note(error, request), name="error")


def usage_body(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }
