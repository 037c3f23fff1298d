"""The answers of one request on their way: prepared in a thread, run by the engine, collected in the event loop."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from quire.answering import NotCovered, Prepared, Told
from quire.core import Delta, Usage
from quire.errors import EngineStopped, InvalidRequest, QuireError, RequestCancelled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.types import Receive

    from quire.access import Principal
    from quire.answering import Answerer, Question
    from quire.gateway.gateway import Gateway
    from quire.gateway.passage import Passage
    from quire.limits import Admission
    from quire.scheduler import Sink, Ticket

GONE = RequestCancelled("the caller closed the connection")
Event = tuple[float, int, Delta | QuireError]  # when (perf_counter), which answer, what


class Generation:
    """`n` answers to each of some prompts. The answer `i` of prompt `p` has the index ``p * n + i``.

    Make one with `begin`; whatever happens then, call `close`.
    """

    def __init__(self, gateway: Gateway, admission: Admission, n: int, began: float) -> None:
        """`began`: when the request arrived."""
        self.admission = admission
        self.prepared: list[Prepared | NotCovered] = []
        self._gateway = gateway
        self.n = n
        self.began = began
        self.first_token_seconds: float | None = None
        self.reasons: dict[int, str] = {}  # why each answer ended, by its index
        self.considered: list[tuple[float, float]] = []  # when each prompt was routed and leased
        self.ended = began
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._first: Event | None = None
        self.is_abandoned = False  # the caller has closed the connection
        self.tickets: list[Ticket | Told] = []
        self._watcher: asyncio.Task[None] | None = None
        self._last_token: dict[int, float] = {}

    @classmethod
    async def begin(
        cls,
        gateway: Gateway,
        passage: Passage,
        principal: Principal,
        questions: Sequence[Question],
        n: int,
        receive: Receive,
    ) -> Generation:
        """Start the answers and wait for the first sign of life, so that a refusal comes before any of the response.

        Args:
            passage: of the request, which keeps the generation for its log line.
            questions: one for each prompt.
            receive: the ASGI channel on which a disconnect of the caller shows. The body must have been read.

        Raises:
            What `Answerer.prepare` and `Answerer.start` raise; RequestCancelled; RateLimited, QuotaExhausted.
        """
        gateway.check_open()
        answerer = gateway.runtime.answerer
        admission = await asyncio.to_thread(gateway.project.limiter.arrive, principal.tenant)
        generation = passage.generation = cls(gateway, admission, n, passage.began)
        gateway.active.add(generation)
        generation._watcher = asyncio.create_task(generation._watch(receive))
        try:
            gateway.check_open()  # a shutdown may have begun meanwhile, and it waits for those that it knows
            await generation._start(answerer, principal, questions)
            generation._first = generation._checked(await generation._events.get())
        except BaseException:
            generation.close()
            raise
        return generation

    async def deltas(self) -> AsyncIterator[tuple[int, Delta]]:
        """What the answers say, as (index, delta), until all of them have ended.

        Raises:
            RequestCancelled, EngineStopped, and what the engine refuses.
        """
        unfinished = len(self.tickets)
        while unfinished:
            if self.is_abandoned:  # what was said meanwhile has no listener
                raise GONE
            event = self._first or self._checked(await self._events.get())
            self._first = None
            when, index, delta = event
            if isinstance(delta, QuireError):  # for the type checker: `_checked` has raised it
                raise delta
            self._measure(when, index, delta)
            if delta.finish_reason:
                unfinished -= 1
                self.reasons[index] = delta.finish_reason
            yield index, self._without_eos(delta)

    @property
    def usage(self) -> Usage:
        """Token counts so far: each prompt once, all answers."""
        each = [ticket.usage or Usage(0, 0, 0) for ticket in self.tickets]
        prompts = each[:: self.n]
        return Usage(sum(u.prompt for u in prompts), sum(u.cached for u in prompts), sum(u.completion for u in each))

    def provenance(self, index: int = 0) -> dict[str, Any]:
        """The `quire` object of an answer; of the first to its prompt, since the others follow it."""
        return self.prepared[index - index % self.n].provenance()

    @property
    def repeating(self) -> list[int]:
        """Indexes of the answers that were ended because they repeated themselves."""
        return sorted(index for index, reason in self.reasons.items() if reason == "repetition")

    @property
    def prompts(self) -> int:
        return len(self.prepared) // self.n

    @property
    def model_name(self) -> str:
        return self._gateway.model_name

    def facts(self) -> dict[str, Any]:
        """What the log says of it. Words of the caller are not among it."""
        firsts, usage = self.prepared[:: self.n], self.usage
        covered = [first for first in firsts if isinstance(first, Prepared)]
        restored = [first.restored for first in covered]
        return {
            "module": ",".join(sorted({str(first.module.ref) for first in covered})),
            "stage": ",".join(sorted({first.plan.stage for first in firsts})),
            "tier": ",".join(sorted({one.tier for one in restored})),
            "restore_seconds": round(sum(one.seconds for one in restored), 6) if restored else None,
            "first_token_seconds": self.first_token_seconds and round(self.first_token_seconds, 6),
            "answers": len(self.tickets),
            "finish": ",".join(sorted(set(self.reasons.values()))),
            "prompt_tokens": usage.prompt,
            "cached_tokens": usage.cached,
            "completion_tokens": usage.completion,
        }

    def cancel(self) -> None:
        """Stop generating; `deltas` then raises EngineStopped."""
        for ticket in self.tickets:
            if not isinstance(ticket, Told):
                self._gateway.runtime.scheduler.cancel(ticket)

    def close(self) -> None:
        """Stop what still runs and count what was computed. May be called twice."""
        if self not in self._gateway.active:
            return
        self._gateway.active.remove(self)
        self.ended = time.perf_counter()
        self.cancel()
        if self._watcher:
            self._watcher.cancel()
        usage = self.usage
        self._count(usage)
        self.admission.close(usage.prompt - usage.cached + usage.completion)

    def _count(self, usage: Usage) -> None:
        metrics = self._gateway.metrics
        metrics.count_tokens(usage)
        if self.reasons:
            metrics.answer.observe(self.ended - self.began)
        for ticket in self.tickets:
            if isinstance(ticket, Told) or (waited := ticket.times.queue_seconds) is None:
                continue
            metrics.queue.observe(waited)
            if (read := ticket.times.prefill_seconds) is not None:
                metrics.prefill.observe(read)

    async def _start(self, answerer: Answerer, principal: Principal, questions: Sequence[Question]) -> None:
        loop = asyncio.get_running_loop()

        def sink(index: int) -> Sink:
            def put(item: Delta | QuireError) -> None:
                event = (time.perf_counter(), index, item)
                if not loop.is_closed():  # else nobody is left to listen
                    loop.call_soon_threadsafe(self._events.put_nowait, event)

            return put

        def start() -> None:
            prepared: list[Prepared | NotCovered] = []
            try:
                answerer.check_queue(principal)
                for question in questions:
                    if self.is_abandoned:
                        raise GONE
                    began = time.perf_counter()
                    try:
                        prepared += _prepare(answerer, principal, question, self.n)
                    finally:
                        self.considered.append((began, time.perf_counter()))
                self.prepared = list(prepared)
                self.admission.reserve(sum(one.most_tokens for one in prepared))
                if self.is_abandoned:
                    raise GONE
                while prepared:
                    one, to = prepared.pop(0), sink(len(self.tickets))
                    self.tickets.append(one.tell(to) if isinstance(one, NotCovered) else answerer.start(one, to))
            except BaseException:
                for unused in prepared:
                    unused.release()
                raise

        starting = asyncio.create_task(self._gateway.in_thread(start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:  # the thread cannot be stopped: cancel what it will have started
            starting.add_done_callback(self._cancel_started)
            raise
        metrics = self._gateway.metrics
        for first in self.prepared[:: self.n]:
            if isinstance(first, Prepared):
                metrics.restore.labels(first.restored.tier).observe(first.restored.seconds)
                metrics.restored_bytes.labels(first.restored.tier).inc(sum(r.bytes for r in first.lease.records))
            metrics.routes.labels(first.plan.stage).inc()

    def _cancel_started(self, starting: asyncio.Task[None]) -> None:
        if not starting.cancelled() and starting.exception() is None:
            self.cancel()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.is_abandoned = True
        self.cancel()
        self._events.put_nowait((time.perf_counter(), 0, GONE))

    def _checked(self, event: Event) -> Event:
        item = event[2]
        if isinstance(item, QuireError):
            raise item
        if item.finish_reason == "cancelled":
            raise EngineStopped("the server stopped before the answer was complete", hint="ask again in a moment")
        return event

    def _measure(self, when: float, index: int, delta: Delta) -> None:
        if not delta.token_ids:
            return
        metrics, before = self._gateway.metrics, self._last_token.get(index)
        if before is None:
            metrics.first_token.observe(when - self.began)
            self.first_token_seconds = self.first_token_seconds or when - self.began
        else:
            metrics.inter_token.observe(when - before)
        self._last_token[index] = when

    def _without_eos(self, delta: Delta) -> Delta:
        """Log-probabilities are those of the tokens of the text: the one that ends it is none of them."""
        eos = self._gateway.runtime.model.tokenizer.eos_ids
        if delta.finish_reason == "stop" and delta.logprobs and delta.logprobs[-1].token_id in eos:
            return replace(delta, logprobs=delta.logprobs[:-1])
        return delta


def _prepare(answerer: Answerer, principal: Principal, question: Question, n: int) -> Sequence[Prepared | NotCovered]:
    """`question` prepared `n` times, with seeds counting up, all on the version that the first was routed to."""
    if n > 1 and question.session is not None:
        raise InvalidRequest(
            f"a session goes on with one answer, found n = {n}", hint="leave out quire.session or n", param="n"
        )
    first = answerer.consider(question, principal)
    if isinstance(first, NotCovered):
        return [first] * n
    prepared = [first]
    try:
        for i in range(1, n):
            seed = None if question.sampling.seed is None else question.sampling.seed + i
            sampling = replace(question.sampling, seed=seed)
            prepared.append(answerer.prepare_again(first, sampling))
    except BaseException:
        for unused in prepared:
            unused.release()
        raise
    return prepared
