"""The answers of one request on their way: prepared in a thread, run by the engine, collected in the event loop."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from quire.core import Delta, Usage
from quire.errors import EngineStopped, InvalidRequest, QuireError, RequestCancelled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.types import Receive

    from quire.answering import Answerer, Prepared, Question
    from quire.gateway.gateway import Gateway
    from quire.scheduler import Sink, Ticket

GONE = RequestCancelled("the caller closed the connection")
Event = tuple[float, int, Delta | QuireError]  # when (perf_counter), which answer, what


class Generation:
    """`n` answers to each of some prompts. The answer `i` of prompt `p` has the index ``p * n + i``.

    Make one with `begin`; whatever happens then, call `close`.
    """

    def __init__(self, gateway: Gateway, n: int) -> None:
        self.prepared: list[Prepared] = []
        self._gateway = gateway
        self._n = n
        self._began = time.perf_counter()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._first: Event | None = None
        self._tickets: list[Ticket] = []
        self._watcher: asyncio.Task[None] | None = None
        self._last_token: dict[int, float] = {}

    @classmethod
    async def begin(cls, gateway: Gateway, questions: Sequence[Question], n: int, receive: Receive) -> Generation:
        """Start the answers and wait for the first sign of life, so that a refusal comes before any of the response.

        Args:
            questions: one for each prompt.
            receive: the ASGI channel on which a disconnect of the caller shows. The body must have been read.

        Raises:
            What `Answerer.prepare` and `Answerer.start` raise; RequestCancelled.
        """
        gateway.check_open()
        generation = cls(gateway, n)
        gateway.active.add(generation)
        generation._watcher = asyncio.create_task(generation._watch(receive))
        try:
            await generation._start(gateway.runtime.answerer, questions)
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
        unfinished = len(self._tickets)
        while unfinished:
            event = self._first or self._checked(await self._events.get())
            self._first = None
            when, index, delta = event
            if isinstance(delta, QuireError):  # for the type checker: `_checked` has raised it
                raise delta
            self._measure(when, index, delta)
            unfinished -= delta.finish_reason is not None
            yield index, self._without_eos(delta)

    @property
    def usage(self) -> Usage:
        """Token counts so far: each prompt once, all answers."""
        each = [ticket.usage or Usage(0, 0, 0) for ticket in self._tickets]
        prompts = each[:: self._n]
        return Usage(sum(u.prompt for u in prompts), sum(u.cached for u in prompts), sum(u.completion for u in each))

    def provenance(self, index: int = 0) -> dict[str, Any]:
        """The `quire` object of an answer; of the first to its prompt, since the others follow it."""
        return self.prepared[index - index % self._n].provenance()

    @property
    def prompts(self) -> int:
        return len(self.prepared) // self._n

    def cancel(self) -> None:
        """Stop generating; `deltas` then raises EngineStopped."""
        for ticket in self._tickets:
            self._gateway.runtime.scheduler.cancel(ticket)

    def close(self) -> None:
        """Stop what still runs and count what was computed. May be called twice."""
        if self not in self._gateway.active:
            return
        self._gateway.active.remove(self)
        self.cancel()
        if self._watcher:
            self._watcher.cancel()
        self._gateway.metrics.count_tokens(self.usage)

    async def _start(self, answerer: Answerer, questions: Sequence[Question]) -> None:
        loop = asyncio.get_running_loop()

        def sink(index: int) -> Sink:
            def put(item: Delta | QuireError) -> None:
                event = (time.perf_counter(), index, item)
                if not loop.is_closed():  # else nobody is left to listen
                    loop.call_soon_threadsafe(self._events.put_nowait, event)

            return put

        def start() -> None:
            prepared: list[Prepared] = []
            try:
                for question in questions:
                    prepared += _prepare(answerer, question, self._n)
                self.prepared = list(prepared)
                while prepared:
                    self._tickets.append(answerer.start(prepared.pop(0), sink(len(self._tickets))))
            except BaseException:
                for unused in prepared:
                    unused.release()
                raise

        starting = asyncio.create_task(asyncio.to_thread(start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:  # the thread cannot be stopped: cancel what it will have started
            starting.add_done_callback(self._cancel_started)
            raise
        for first in self.prepared[:: self._n]:
            self._gateway.metrics.restore.labels(first.restored.tier).observe(first.restored.seconds)

    def _cancel_started(self, starting: asyncio.Task[None]) -> None:
        if not starting.cancelled() and starting.exception() is None:
            self.cancel()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
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
            metrics.first_token.observe(when - self._began)
        else:
            metrics.inter_token.observe(when - before)
        self._last_token[index] = when

    def _without_eos(self, delta: Delta) -> Delta:
        """Log-probabilities are those of the tokens of the text: the one that ends it is none of them."""
        eos = self._gateway.runtime.model.tokenizer.eos_ids
        if delta.finish_reason == "stop" and delta.logprobs and delta.logprobs[-1].token_id in eos:
            return replace(delta, logprobs=delta.logprobs[:-1])
        return delta


def _prepare(answerer: Answerer, question: Question, n: int) -> list[Prepared]:
    """`question` prepared `n` times, with seeds counting up, all on the version that the first was routed to."""
    if n > 1 and question.session is not None:
        raise InvalidRequest(
            f"a session goes on with one answer, found n = {n}", hint="leave out quire.session or n", param="n"
        )
    prepared = [answerer.prepare(question)]
    try:
        for i in range(1, n):
            seed = None if question.sampling.seed is None else question.sampling.seed + i
            sampling = replace(question.sampling, seed=seed)
            module = str(prepared[0].module.ref)
            prepared.append(answerer.prepare(replace(question, module=module, sampling=sampling)))
    except BaseException:
        for unused in prepared:
            unused.release()
        raise
    return prepared
