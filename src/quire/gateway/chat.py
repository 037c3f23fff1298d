"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from quire.answering import Question
from quire.gateway.body import read_fields
from quire.gateway.logprobs import chat_logprobs
from quire.gateway.models import named_module
from quire.gateway.responding import AnswerForm, Choice, respond
from quire.gateway.schemas import ChatFields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.core import TokenLogprob
    from quire.gateway.gateway import Gateway


async def chat_completions(request: Request) -> Response:
    """Answer the last of some messages."""
    gateway: Gateway = request.app.state.gateway
    fields = await read_fields(request, ChatFields, most_bytes=gateway.most_body_bytes)
    question = Question(
        turns=tuple(message.turn() for message in fields.messages),
        module=named_module(gateway, fields.model, fields.quire),
        hints=fields.quire.hints,
        session=fields.quire.session,
        sampling=fields.asked,
    )
    return await respond(request, fields, [question], ChatForm())


class ChatForm(AnswerForm):
    prefix = "chatcmpl"
    whole_kind = "chat.completion"
    piece_kind = "chat.completion.chunk"

    def whole(self, index: int, text: str, logprobs: Sequence[TokenLogprob] | None, reason: str) -> Choice:
        return {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None if logprobs is None else chat_logprobs(logprobs),
            "finish_reason": reason,
        }

    def opening(self, index: int) -> Choice:
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def piece(self, index: int, text: str, logprobs: Sequence[TokenLogprob] | None) -> Choice:
        shown = None if logprobs is None else chat_logprobs(logprobs)
        return {"index": index, "delta": {"content": text}, "logprobs": shown, "finish_reason": None}

    def closing(self, index: int, reason: str) -> Choice:
        return {"index": index, "delta": {}, "logprobs": None, "finish_reason": reason}
