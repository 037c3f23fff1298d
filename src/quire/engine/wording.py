"""From the tokens of an answer to its text, as it becomes final."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.core import Delta, FinishReason, TokenLogprob
from quire.engine.text import Detokenizer, StopStrings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.engine.base import Token
    from quire.engine.sampling import Likelihood
    from quire.model import TextTokenizer


class Wording:
    """What one answer says so far. `completion` counts the tokens that were told."""

    def __init__(self, tokenizer: TextTokenizer, stops: Sequence[str]) -> None:
        self.completion = 0
        self.stopped = False  # by a stop string: what comes after it is not told
        self.whole = False  # it ended by itself, and its text is that of its tokens
        self.said: list[str] = []
        self.said_ids: list[int] = []
        self._piece = tokenizer.piece
        self._detokenizer = Detokenizer(tokenizer.decode)
        self._stops = StopStrings(stops)

    def push(self, token: Token) -> Delta:
        """What `token` adds; its text may still be incomplete. Not to be called once `stopped`. Mutates."""
        text = ""
        ends_silently = token.reason == "stop"
        if not ends_silently:
            self.said_ids.append(token.token_id)
            text, self.stopped = self._stops.push(self._detokenizer.push(token.token_id))
        if token.reason and not self.stopped:
            tail, self.stopped = self._stops.push(self._detokenizer.finish())
            text += tail + ("" if self.stopped else self._stops.finish())
            self.whole = not self.stopped
        self.said.append(text)
        self.completion += 1
        logprobs = (self._named(token.token_id, token.likelihood),) if token.likelihood else ()
        reason: FinishReason | None = "stop" if token.reason and self.stopped else token.reason
        return Delta(text, (token.token_id,), logprobs, reason)

    def close(self, reason: FinishReason) -> Delta:
        """The end of an answer that no token ended: a stop string did, or `reason`."""
        return Delta("", finish_reason="stop" if self.stopped else reason)

    def _named(self, token_id: int, likelihood: Likelihood) -> TokenLogprob:
        top = tuple((other, self._piece(other), logprob) for other, logprob in likelihood.top)
        return TokenLogprob(token_id, self._piece(token_id), likelihood.logprob, top)
