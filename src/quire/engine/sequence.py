"""One request on its way: what is computed, what was chosen, what was said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.core import Delta, FinishReason, TokenLogprob, Usage
from quire.engine.sampling import Sampler
from quire.engine.text import Detokenizer, StopStrings
from quire.model import GrowingKV

if TYPE_CHECKING:
    import torch

    from quire.core import KVGeometry
    from quire.engine.base import Request
    from quire.model import TextTokenizer


class Running:
    """State of one admitted request."""

    def __init__(self, request: Request, geometry: KVGeometry, tokenizer: TextTokenizer, limit: int) -> None:
        """`limit`: most tokens to generate."""
        self.request = request
        self.session = request.session
        self.kv = self.session.kv if self.session else GrowingKV(geometry)
        reused = self.session.resume(request.suffix_ids) if self.session else 0
        self.pending = request.suffix_ids[reused:]  # chosen or given, not computed yet
        self.generated: list[int] = []
        self.finish_reason: FinishReason | None = None
        self.ended = False
        self._limit = limit
        self._reused = reused
        self._eos = frozenset() if request.sampling.ignore_eos else tokenizer.eos_ids
        self._sampler = Sampler(request.sampling, self._penalized_ids(), tokenizer.piece)
        self._detokenizer = Detokenizer(tokenizer.decode)
        self._stops = StopStrings((*request.sampling.stop, *request.stop))
        self._said: list[str] = []
        self._cut_short = False  # by a stop string: then the text is not that of the tokens

    @property
    def usage(self) -> Usage:
        """Tokens so far. Cached are the chain's and those of earlier turns."""
        chain = sum(s.token_count for s in self.request.lease.segments)
        return Usage(chain + len(self.request.suffix_ids), chain + self._reused, len(self.generated))

    def computed(self, token_ids: list[int]) -> None:
        """The KV of `token_ids`, the first of `pending`, is in `kv` now. Mutates."""
        del self.pending[: len(token_ids)]
        if self.session:
            self.session.token_ids += token_ids

    def advance(self, logits: torch.Tensor) -> Delta:
        """Choose the next token from float32 logits [vocabulary]; its text may still be incomplete. Mutates."""
        token, logprob = self._sampler.choose(logits)
        self.generated.append(token)
        self.pending.append(token)
        logprobs = (logprob,) if logprob else ()
        if token in self._eos:
            return self._close("stop", "", token, logprobs, stopped=False)
        text, stopped = self._stops.push(self._detokenizer.push(token))
        if stopped or len(self.generated) >= self._limit:
            return self._close("stop" if stopped else "length", text, token, logprobs, stopped=stopped)
        self._said.append(text)
        return Delta(text, (token,), logprobs)

    def cancel(self) -> Delta:
        """End early. Mutates."""
        self.finish_reason = "cancelled"
        return Delta("", finish_reason="cancelled")

    def remember(self) -> None:
        """Let the session find this answer's token ids by its text. Mutates the session."""
        if self.session and self.finish_reason in {"stop", "length"} and not self._cut_short:
            ids = [t for t in self.generated if t not in self._eos]
            self.session.replies["".join(self._said)] = ids

    def _close(
        self,
        reason: FinishReason,
        text: str,
        token: int,
        logprobs: tuple[TokenLogprob, ...],
        *,
        stopped: bool,
    ) -> Delta:
        if not stopped:
            tail, stopped = self._stops.push(self._detokenizer.finish())
            text += tail + ("" if stopped else self._stops.finish())
            reason = "stop" if stopped else reason
        self._said.append(text)
        self._cut_short = stopped
        self.finish_reason = reason
        return Delta(text, (token,), logprobs, reason)

    def _penalized_ids(self) -> list[int]:
        if self.request.sampling.repetition_penalty == 1.0:
            return []
        return [*self.request.lease.token_ids, *self.request.suffix_ids]
