"""The embedded engine: transformers models in this process, one forward pass for all requests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from quire.engine.base import Engine, Portion, Request, Token
from quire.engine.guessing import Guesser, Phrasebook, StepTimes
from quire.engine.opening import Openings
from quire.engine.refusing import check_sampling, check_suffix
from quire.engine.repetition import repeats
from quire.engine.run import Run
from quire.engine.sampling import choose
from quire.errors import ContextExceeded, ModuleChanged, QuireError
from quire.model import GrowingKV, KVSpaceFull, Row, forward
from quire.model.kv import GRAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.core import FinishReason
    from quire.engine.sampling import Choice
    from quire.engine.sessions import Sessions
    from quire.model import KVSpace, LoadedModel
    from quire.pool import ChainLease


class LocalEngine(Engine):
    """Shares each module's KV between all requests on it; a request owns its suffix only, a region of `space`."""

    def __init__(
        self,
        model: LoadedModel,
        space: KVSpace,
        sessions: Sessions,
        *,
        guesses: int = 0,
        answer_tokens: int = 0,
        repetition_tokens: int = 0,
    ) -> None:
        """
        Args:
            sessions: idle ones, in `space` too; they make room for requests.
            guesses: most tokens of a step that may be guessed for one greedy request (see `guessing`).
            answer_tokens: most tokens of an answer without a limit of its own; 0: as many as there is room for.
            repetition_tokens: an answer ends when so many tokens repeat one span (see `repetition`); 0: it goes on.
        """
        self._model = model
        self._space = space
        self._sessions = sessions
        self._openings = Openings(model.tokenizer)
        self._guesses = guesses if model.backend.steady else 0
        self._answer_tokens = answer_tokens
        self._repetition_tokens = repetition_tokens
        self._phrasebook = Phrasebook()
        self._times = StepTimes()

    def begin(self, request: Request) -> Run:
        self._model.check()
        check_sampling(request.sampling, self._model.vocabulary)
        check_suffix(request.suffix_ids, self._model.vocabulary)
        limit = min(self._context_left(request), self._space_left(request))
        if request.sampling.max_tokens is None and self._answer_tokens:
            limit = min(limit, self._answer_tokens)
        kv = GrowingKV(self._space.geometry, space=self._space)
        run = Run(request, kv, self._model.tokenizer, limit, self._repetition_tokens)
        run.opening = self._openings.of(request)
        if self._guesses and run.sampler.plain:
            run.guesser = Guesser(self._phrasebook.phrases(request.lease))
        return run

    def admit(self, run: Run) -> bool:
        if run.request.session is not None and not run.session:
            self._resume(run, run.request.session)
        computed = run.kv.length
        if not self._make_room(run.kv, min(run.pending + GRAIN, run.most - 1 - computed)):
            self._give_back(run)
            return False
        if run.opening and not computed:
            run.opening.give(run.kv)
        run.reused = computed if run.reused is None else min(run.reused, computed)  # it may have run before
        return True

    def grow(self, run: Run) -> bool:
        return run.kv.length < run.kv.capacity or self._make_room(run.kv, 1)

    def step(self, batch: Sequence[Portion]) -> list[list[Token] | QuireError]:
        cost = self._times.cost(sum(count == run.pending for run, count in batch))
        guesses = [self._guess(run, cost) if run.pending == 1 else [] for run, _ in batch]
        rows = [
            Row(run.request.lease.segments, run.kv, run.next_ids(count) + guess, wanted=1 + len(guess))
            for (run, count), guess in zip(batch, guesses, strict=True)
        ]
        began = time.perf_counter()
        logits = forward(self._model, rows)
        self._times.note(sum(len(row.token_ids) for row in rows), time.perf_counter() - began)
        self._model.check()
        changes = [_change(run) for run, _ in batch]
        for (run, _), change in zip(batch, changes, strict=True):
            if run.opening and not change:
                run.opening.learn(run.kv)
        for (run, _), guess in zip(batch, guesses, strict=True):
            run.kv.truncate(run.kv.length - len(guess))
        chooses = [not run.pending for run, _ in batch]
        wanted = [chosen for chosen, row in zip(chooses, rows, strict=True) for _ in range(row.wanted)]
        asked = [(run, row.wanted) for (run, _), row, chosen in zip(batch, rows, chooses, strict=True) if chosen]
        samplers = [run.sampler for run, count in asked for _ in range(count)]
        likeliest = self._model.backend.likeliest
        choices = iter(choose(logits if all(wanted) else logits[wanted], samplers, likeliest) if samplers else [])
        brought = [
            _append(run, guess, [next(choices) for _ in range(1 + len(guess))]) if chosen else []
            for (run, _), guess, chosen in zip(batch, guesses, chooses, strict=True)
        ]
        return [change or tokens for change, tokens in zip(changes, brought, strict=True)]

    def _guess(self, run: Run, cost: float) -> list[int]:
        """Tokens that may come after the one that is pending, no more than there is room for."""
        if run.guesser is None:
            return []
        room = min(run.kv.capacity - run.kv.length, run.most - len(run.token_ids)) - 1
        return run.guesser.guess(run.token_ids, min(self._guesses, room), cost)

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
            if not (run.begun or run.reused):
                run.kv.truncate(0)  # nothing was computed for it
            run.session.token_ids = run.token_ids[: run.kv.length]
            self._sessions.keep(run.session)
        else:
            run.kv.release()
        run.request.lease.release()

    def room(self) -> tuple[int, int]:
        return self._space.used, self._space.capacity

    def room_behind(self, lease: ChainLease) -> int:
        return min(self._model.max_positions - lease.segments[-1].position_end, self._space.capacity)

    def _resume(self, run: Run, session_id: str) -> None:
        run.session = self._sessions.take(session_id, run.request.lease.basis)
        run.session.resume(run.token_ids)
        run.kv = run.session.kv

    def _give_back(self, run: Run) -> None:
        """A run that waits holds no room: its session is idle again, and others may need its KV more."""
        if run.session and run.kv.length:
            run.session.token_ids = run.token_ids[: run.kv.length]
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


def _change(run: Run) -> QuireError | None:
    """The error of a run whose module's bytes changed: what the step computed for it is not to be used."""
    try:
        run.request.lease.check()
    except ModuleChanged as change:
        return change
    return None


def _append(run: Run, guess: Sequence[int], choices: Sequence[Choice | QuireError]) -> list[Token] | QuireError:
    """What was chosen after the pending token and after each guess, up to the first that was wrong. Mutates the run."""
    tokens: list[Token] = []
    for choice, guessed in zip(choices, [*guess, None], strict=True):
        if isinstance(choice, QuireError):
            return choice
        tokens.append(_token(run, choice))
        if tokens[-1].reason or tokens[-1].token_id != guessed:
            break
    right = len(tokens) - 1
    run.kv.length += right  # it was computed with the step
    if run.guesser:
        run.guesser.learn(len(guess), right)
    return tokens


def _token(run: Run, choice: Choice) -> Token:
    """The chosen token, now the run's last, and whether the run ends with it. Mutates the run."""
    token_id, likelihood = choice
    run.token_ids.append(token_id)
    reason: FinishReason | None = None
    if token_id in run.eos_ids:
        reason = "stop"
    elif len(run.token_ids) == run.most:
        reason = "length"
    elif run.repetition and repeats(run.token_ids, len(run.request.suffix_ids), run.repetition):
        reason = "repetition"
    return Token(token_id, likelihood, reason)
