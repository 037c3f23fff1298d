"""What the tests drive a scheduler with, and how they watch it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from quire import Project, Turn
from quire.access import LOCAL, Principal
from quire.answering import Question
from quire.core import Delta, Sampling
from quire.engine import LocalEngine, Request, Sessions
from quire.errors import QuireError
from quire.model import GrowingKV, KVSpace, LoadedModel, Row, forward
from quire.scheduler import Scheduler, Ticket
from quire.scheduler.schedule import Schedule

FIXED, TOKEN, ATTENDED = 20e-3, 1e-3, 0.5e-6  # seconds of a step, of a token in it, and of a token that one attends to
LONG = Sampling(max_tokens=400, ignore_eos=True)


class Inbox:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.items: list[Delta | QuireError] = []
        self.ended = threading.Event()

    def __call__(self, item: Delta | QuireError) -> None:
        self.items.append(item)
        if isinstance(item, QuireError) or item.finish_reason:
            self.ended.set()

    @property
    def end(self) -> Delta | QuireError:
        assert self.ended.wait(60)
        return self.items[-1]

    @property
    def reason(self) -> str | None:
        return self.end.finish_reason if isinstance(self.end, Delta) else self.end.code

    @property
    def token_ids(self) -> list[int]:
        return [t for item in self.items if isinstance(item, Delta) for t in item.token_ids]

    @property
    def text(self) -> str:
        return "".join(item.text for item in self.items if isinstance(item, Delta))


Submit = Callable[..., tuple[Ticket, Inbox]]


@contextmanager
def scheduling(
    project: Project,
    *,
    max_sequences: int = 64,
    step_tokens: int = 64,
    queue: int = 256,
    suffix_tokens: int = 1 << 16,
    session_bytes: int = 1 << 30,
    guesses: int = 0,
) -> Iterator[tuple[Scheduler, Submit]]:
    """A scheduler of its own on the project's model, and a function that submits a question to it."""
    space = KVSpace(project.model.geometry, suffix_tokens)
    engine = LocalEngine(project.model, space, Sessions(space, session_bytes), guesses=guesses)
    scheduler = Scheduler(engine, max_sequences=max_sequences, step_tokens=step_tokens, queue=queue)

    def submit(
        text: str = "Why?",
        sampling: Sampling = LONG,
        sink: Any = None,
        module: str = "prices",
        session: str | None = None,
        principal: Principal = LOCAL,
    ) -> tuple[Ticket, Inbox]:
        question = Question((Turn("user", text),), module=module, sampling=sampling, session=session)
        inbox = sink or Inbox()
        request = project.runtime.answerer.prepare(question, principal).request()
        try:
            return scheduler.submit(request, inbox), inbox
        except QuireError:
            request.lease.release()
            raise

    try:
        yield scheduler, submit
    finally:
        scheduler.stop()


class Passes:
    """Stands between engine and model: keeps what every pass was asked for, may act before it and change its logits."""

    def __init__(self) -> None:
        self.rows: list[dict[int, int]] = []  # of each pass: tokens by the id of the KV they went to
        self._kept: set[GrowingKV] = set()  # so that no id comes twice
        self.before: Callable[[], object] = lambda: None
        self.after: Callable[[torch.Tensor], torch.Tensor] = lambda logits: logits

    @contextmanager
    def held(self) -> Iterator[None]:
        """No pass begins before the end of the block."""
        gate = threading.Event()
        self.before = lambda: gate.wait(60)
        try:
            yield
        finally:
            gate.set()

    def __call__(self, model: LoadedModel, rows: Sequence[Row]) -> torch.Tensor:
        self.before()
        self._kept.update(row.kv for row in rows)
        self.rows.append({id(row.kv): len(row.token_ids) for row in rows})
        return self.after(forward(model, rows))


def seconds_of(batch: Sequence[tuple[Ticket, int]]) -> float:
    """What a step takes on a small machine."""
    return FIXED + sum(count * (TOKEN + ATTENDED * ticket.run.kv.length) for ticket, count in batch)


class Steps:
    """A schedule and its engine, driven by hand; keeps what each tenant was computed and when tickets ended.

    What it is told of the time is that of a small machine, so that every figure is exact.
    """

    def __init__(self, project: Project, *, max_sequences: int = 8, step_tokens: int = 64, room: int = 1 << 16) -> None:
        space = KVSpace(project.model.geometry, room)
        self.engine = LocalEngine(project.model, space, Sessions(space, 1 << 30))
        self.schedule = Schedule(self.engine, max_sequences=max_sequences, step_tokens=step_tokens)
        self.project = project
        self.computed: Counter[str] = Counter()
        self.began: dict[Ticket, int] = {}  # the step of its first token
        self.ended: dict[Ticket, int] = {}
        self.step_number = 0
        self.seconds = 0.0

    def ask(self, tenant: str, tokens: int = 20, *, weight: int = 1, text: str = "Why?") -> Ticket:
        question = Question(
            (Turn("user", text),), module="prices", sampling=Sampling(max_tokens=tokens, ignore_eos=True)
        )
        prepared = self.project.runtime.answerer.prepare(question, LOCAL)
        plain = prepared.request()
        request = Request(plain.lease, plain.suffix_ids, plain.sampling, asker=(tenant,), weight=weight)
        ticket = Ticket(self.engine.begin(request), lambda _item: None)
        self.schedule.add(ticket)
        return ticket

    def step(self) -> None:
        self.schedule.admit()
        batch = self.schedule.next_batch()
        self.step_number += 1
        if not batch:
            return
        seconds = seconds_of(batch)
        brought = self.engine.step([(ticket.run, count) for ticket, count in batch])
        self.schedule.after_step(seconds)
        self.seconds += seconds
        for (ticket, count), tokens in zip(batch, brought, strict=True):
            assert isinstance(tokens, list)
            self.computed[ticket.tenant] += count
            if tokens:
                self.began.setdefault(ticket, self.step_number)
                if tokens[-1].reason:
                    self.ended[ticket] = self.step_number
        self.schedule.finish([ticket for ticket, _ in batch if ticket in self.ended])

    def close(self) -> None:
        self.schedule.finish([*self.schedule.running, *self.schedule.waiting])


def own_tokens(ticket: Ticket) -> int:
    """Tokens of its question but for those with which every conversation begins."""
    opening = ticket.run.opening
    assert opening is not None
    return len(ticket.run.request.suffix_ids) - len(opening.token_ids)


def leases(project: Project) -> int:
    return project.runtime.pool.state().leases
