"""POST /v1/completions: text to go on with, without the markers of a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from quire.answering import Question
from quire.gateway.body import read_fields
from quire.gateway.logprobs import completion_logprobs
from quire.gateway.models import named_module
from quire.gateway.responding import AnswerForm, Choice, respond
from quire.gateway.schemas import CompletionFields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.core import TokenLogprob
    from quire.gateway.gateway import Gateway


async def completions(request: Request) -> Response:
    """Continue one or several prompts."""
    gateway: Gateway = request.app.state.gateway
    fields = await read_fields(request, CompletionFields, most_bytes=gateway.most_body_bytes)
    module = named_module(gateway, fields.model, fields.quire)
    sampling = fields.asked
    questions = [
        Question(
            prompt=prompt,
            module=module,
            hints=fields.quire.hints,
            session=fields.quire.session,
            sampling=sampling,
        )
        for prompt in fields.prompt
    ]
    return await respond(request, fields, questions, CompletionForm())


class CompletionForm(AnswerForm):
    prefix = "cmpl"
    whole_kind = piece_kind = "text_completion"

    def __init__(self) -> None:
        self._offsets: dict[int, int] = {}  # characters of logprobs' tokens shown so far, by answer

    def whole(self, index: int, text: str, logprobs: Sequence[TokenLogprob] | None, reason: str) -> Choice:
        shown = None if logprobs is None else completion_logprobs(logprobs, 0)
        return {"index": index, "text": text, "logprobs": shown, "finish_reason": reason}

    def opening(self, index: int) -> Choice:
        return {"index": index, "text": "", "logprobs": None, "finish_reason": None}

    def piece(self, index: int, text: str, logprobs: Sequence[TokenLogprob] | None) -> Choice:
        shown = None
        if logprobs is not None:
            offset = self._offsets.get(index, 0)
            shown = completion_logprobs(logprobs, offset)
            self._offsets[index] = offset + sum(len(token.text) for token in logprobs)
        return {"index": index, "text": text, "logprobs": shown, "finish_reason": None}

    def closing(self, index: int, reason: str) -> Choice:
        return {"index": index, "text": "", "logprobs": None, "finish_reason": reason}
