"""The embedded engine: transformers models in this process, one forward pass for all requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.engine.base import Engine, Portion, Request, Token
from quire.engine.refusing import check_sampling, check_suffix
from quire.engine.run import Run
from quire.engine.sampling import choose
from quire.errors import ContextExceeded, QuireError
from quire.model import GrowingKV, KVSpaceFull, Row, forward
from quire.model.kv import GRAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.core import FinishReason
    from quire.engine.sampling import Choice
    from quire.engine.sessions import Sessions
    from quire.model import KVSpace, LoadedModel


class LocalEngine(Engine):
    """Shares each module's KV between all requests on it; a request owns its suffix only, a region of `space`."""

    def __init__(self, model: LoadedModel, space: KVSpace, sessions: Sessions) -> None:
        """`sessions`: idle ones, in `space` too; they make room for requests."""
        self._model = model
        self._space = space
        self._sessions = sessions

    def begin(self, request: Request) -> Run:
        check_sampling(request.sampling, self._model.vocabulary)
        check_suffix(request.suffix_ids, self._model.vocabulary)
        limit = min(self._context_left(request), self._space_left(request))
        return Run(request, GrowingKV(self._space.geometry, space=self._space), self._model.tokenizer, limit)

    def admit(self, run: Run) -> bool:
        if run.request.session is not None and not run.session:
            self._resume(run, run.request.session)
        reused = run.kv.length
        if not self._make_room(run.kv, min(run.pending + GRAIN, run.most - 1 - reused)):
            self._give_back(run)
            return False
        run.reused = reused
        return True

    def grow(self, run: Run) -> bool:
        return run.kv.length < run.kv.capacity or self._make_room(run.kv, 1)

    def step(self, batch: Sequence[Portion]) -> list[Token | QuireError | None]:
        rows = [Row(run.request.lease.segments, run.kv, run.next_ids(count)) for run, count in batch]
        logits = forward(self._model, rows)
        brought: list[Token | QuireError | None] = [None] * len(batch)
        if ready := [i for i, (run, _) in enumerate(batch) if not run.pending]:
            runs = [batch[i][0] for i in ready]
            scores = logits if len(ready) == len(batch) else logits[ready]
            for i, run, choice in zip(ready, runs, choose(scores, [run.sampler for run in runs]), strict=True):
                brought[i] = _append(run, choice)
        return brought

    def copy(self, reader: Run, run: Run) -> None:
        run.kv.copy(reader.kv, len(run.request.suffix_ids) - 1)

    def preempt(self, run: Run) -> None:
        run.kv.release()
        if run.session:
            run.session.token_ids = []

    def end(self, run: Run) -> None:
        if run.ended:
            return
        run.ended = True
        if run.session:
            run.session.token_ids = run.token_ids[: run.kv.length]
            self._sessions.keep(run.session)
        else:
            run.kv.release()
        run.request.lease.release()

    def room(self) -> tuple[int, int]:
        return self._space.used, self._space.capacity

    def _resume(self, run: Run, session_id: str) -> None:
        run.session = self._sessions.take(session_id, run.request.lease.leaf.digest)
        run.session.resume(run.token_ids)
        run.kv = run.session.kv

    def _give_back(self, run: Run) -> None:
        """A run that waits holds no room: its session is idle again, and others may need its KV more."""
        if run.session and run.kv.length:
            self._sessions.keep(run.session)
            run.session, run.kv = None, GrowingKV(self._space.geometry, space=self._space)
        else:
            run.kv.release()

    def _make_room(self, kv: GrowingKV, tokens: int) -> bool:
        """Whether `kv` has room for `tokens` more, if need be by dropping idle sessions, the longest unused first."""
        while True:
            try:
                kv.reserve(tokens)
            except KVSpaceFull:
                if not self._sessions.drop_oldest():
                    return False
            else:
                return True

    def _context_left(self, request: Request) -> int:
        """Tokens that an answer may have for the model's sake. Raises: ContextExceeded."""
        used = request.lease.segments[-1].position_end + len(request.suffix_ids)
        room = self._model.max_positions - used
        wanted = request.sampling.max_tokens
        if room < (wanted or 1):
            raise ContextExceeded(
                f"chain and question take {used} of the model's {self._model.max_positions} positions, "
                f"which leaves {max(room, 0)} for the answer, not {wanted or 1}",
                hint="shorten the conversation or lower max_tokens",
            )
        return wanted or room

    def _space_left(self, request: Request) -> int:
        """Tokens that an answer may have if its request were alone. Raises: ContextExceeded."""
        suffix, wanted = len(request.suffix_ids), request.sampling.max_tokens
        room = self._space.capacity - suffix + 1  # the last token is chosen and never computed
        if room < (wanted or 1):
            raise ContextExceeded(
                f"the server has room for {self._space.capacity} tokens of questions and answers; this question takes "
                f"{suffix}, which leaves {max(room, 0)} for its answer, not {wanted or 1}",
                hint="shorten the conversation, lower max_tokens, or let the operator raise engine.suffix_tokens",
            )
        return room


def _append(run: Run, choice: Choice | QuireError) -> Token | QuireError:
    """The chosen token, now the run's last, and whether the run ends with it. Mutates the run."""
    if isinstance(choice, QuireError):
        return choice
    token_id, likelihood = choice
    run.token_ids.append(token_id)
    reason: FinishReason | None = None
    if token_id in run.eos_ids:
        reason = "stop"
    elif len(run.token_ids) == run.most:
        reason = "length"
    return Token(token_id, likelihood, reason)
