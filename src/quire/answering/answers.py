"""A question's way from words to tokens: route, lease, lay out, submit. The same for console, API and Python."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from quire.access import readable_scopes
from quire.answering.comparing import ended_by
from quire.answering.confirming import confirming
from quire.answering.finding import find_chain
from quire.answering.parts import Parts
from quire.answering.questions import NotCovered, Prepared, check_text, session_name
from quire.answering.room import FittingTokenizer
from quire.answering.standing import require_current, withheld
from quire.compiler import Layout
from quire.core import Delta, Plan, Sampling, Usage
from quire.errors import (
    ArtifactError,
    ContextExceeded,
    ModelMismatch,
    ModuleExpired,
    ModuleUnknown,
    NoLiveVersion,
    NoRoute,
    QuireError,
    ResourceError,
    StoreError,
)
from quire.registry.figures import fell_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from quire.access import Policy, Principal
    from quire.answering.comparing import Comparing
    from quire.answering.fitting import Fitting
    from quire.answering.parts import Part
    from quire.answering.questions import Question
    from quire.answering.recording import Recording
    from quire.engine import Sessions
    from quire.model import LoadedModel
    from quire.pool import Pool
    from quire.registry import Registry, VersionRecord
    from quire.router import LiveRoutes
    from quire.scheduler import Scheduler, Sink, Ticket


class Answerer:
    """Answers questions from live modules. Thread-safe."""

    def __init__(
        self,
        model: LoadedModel,
        registry: Registry,
        pool: Pool,
        routes: LiveRoutes,
        scheduler: Scheduler,
        sessions: Sessions,
        policy: Policy,
        recording: Recording,
        weight_of: Callable[[str], int],
        comparing: Comparing,
        fitting: Fitting,
    ) -> None:
        """`weight_of`: how large a tenant's share of the engine is, compared with others'."""
        self.model = model
        self.pool = pool
        self.routes = routes
        self.scheduler = scheduler
        self._registry = registry
        self.sessions = sessions
        self._policy = policy
        self._recording = recording
        self._weight_of = weight_of
        self._parts = Parts(registry, policy)
        self._comparing = comparing
        self.fitting = fitting

    def check_queue(self, principal: Principal) -> None:
        """Raises EngineBusy where `start` would now: so that a refusal costs no routing, leasing and tokenizing."""
        self.scheduler.check_queue(principal.tenant, self._weight_of(principal.tenant))

    def prepare(self, question: Question, principal: Principal) -> Prepared:
        """As `consider`, for who cannot do without a module. Raises NoRoute where no module answers."""
        prepared = self.consider(question, principal)
        if isinstance(prepared, NotCovered):
            raise _no_route(prepared.plan)
        return prepared

    def consider(self, question: Question, principal: Principal) -> Prepared | NotCovered:
        """Route `question` among what `principal` may read, lease the chain, tokenize the suffix.

        Computes nothing on the model.

        Raises:
            ModuleUnknown, VersionUnknown, NoLiveVersion, ModelMismatch, ArtifactError, StoreError, InvalidRequest;
            ModuleExpired of a module that was named, ModuleStale of one that does not answer while it is stale;
            NoRoute where no module answers and `routing.fallback` is off.
        """
        plan, chain = self.route(question, principal)
        part = self._parts.of(question, principal, plan, chain) if chain else None
        if part and part.arm == "candidate":
            if tried := self._tried(question, plan, part, principal):
                return tried
            part = None  # the live version answers what the candidate cannot
        self._recording.decided(principal, plan, chain)
        if not chain:
            if not self.routes.current().table.stages.fallback:
                raise _no_route(plan)
            return NotCovered(question, plan, partial(self._recording.listening, principal, question.text, ()))
        record = chain[-1]
        if record.state == "candidate":
            raise NoLiveVersion(f"{record.ref} is a candidate that never went live", hint="run `quire build`")
        require_current(chain)
        return self._prepared(question, plan, chain, principal, part=part)

    def _tried(self, question: Question, plan: Plan, part: Part, principal: Principal) -> Prepared | None:
        """`question` prepared for the candidate of a canary; None, and counted, if its bytes do not hold."""
        planned = part.planned(plan)
        try:
            prepared = self._prepared(question, planned, part.candidate, principal, part=part)
        except (ArtifactError, ResourceError, StoreError, ModelMismatch, NoLiveVersion, ModuleExpired):
            self._comparing.count(part, fell_back(part.arm))
            return None
        self._recording.decided(principal, planned, part.candidate)
        return prepared

    def rehearse(self, question: Question, chain: tuple[VersionRecord, ...], principal: Principal) -> Prepared:
        """Lease exactly `chain`, whatever its state but revoked or expired, for who tries a version that is not live.

        It is neither routed nor recorded. Raises as `consider` does of a chain that was found.
        """
        check_text(question)
        leaf = chain[-1]
        plan = Plan(leaf.module_id, "explicit", f"a trial of {leaf.ref}", 1.0, version=leaf.version)
        return self._prepared(question, plan, chain, principal, background=True)

    def try_out(self, question: Question, chain: tuple[VersionRecord, ...], principal: Principal) -> Answer:
        """Ask exactly `chain`, in the background. Raises as `rehearse` and `start`."""
        return Answer(self, self.rehearse(question, chain, principal))

    def _prepared(
        self,
        question: Question,
        plan: Plan,
        chain: tuple[VersionRecord, ...],
        principal: Principal,
        *,
        part: Part | None = None,
        background: bool = False,
    ) -> Prepared:
        record = chain[-1]
        session = session_name(principal, question.session)
        lease = self.pool.lease(chain, principal)
        try:
            layout = Layout.parse(record.inputs.get("layout") or {}, str(record.ref))
            suffix = self._suffix(question, layout, session, self.scheduler.room_behind(lease))
        except BaseException as error:
            lease.release()
            if part and isinstance(error, ContextExceeded):
                self._comparing.count(part, ended_by(error, part.arm))
            raise
        return Prepared(question, plan, lease, layout, suffix, principal, part=part, background=background)

    def prepare_again(self, prepared: Prepared, sampling: Sampling) -> Prepared:
        """Another answer to a prepared question, from the same version, by the same decision.

        Raises:
            NoLiveVersion, ArtifactError, StoreError, ModelMismatch, EngineBusy, DeviceFull.
        """
        lease = self.pool.lease(prepared.lease.records, prepared.principal)
        question = replace(prepared.question, sampling=sampling)
        again = (question, prepared.plan, lease, prepared.layout, prepared.suffix_ids, prepared.principal)
        return Prepared(*again, part=prepared.part)

    def route(self, question: Question, principal: Principal) -> tuple[Plan, tuple[VersionRecord, ...]]:
        """What the router decides among what `principal` may read, and the chain of that; empty for the fallback.

        Raises:
            InvalidRequest, ModuleUnknown, VersionUnknown, NoLiveVersion, ChainBroken.
        """
        check_text(question)
        plan = self.routes.current().route(
            question.text, module=question.module, hints=question.hints, reach=readable_scopes(principal)
        )
        if not plan.module_id:
            return plan, ()
        name = f"{plan.module_id}@{plan.version}" if plan.version else plan.module_id
        try:
            chain = find_chain(self._registry, self._policy, principal, name)
        except (ModuleUnknown, NoLiveVersion):
            if question.module is not None:
                raise
            # Out of service since the table was made, or of a narrower scope by now: then it is not to be named.
            return Plan("", "fallback", "the module that covers it is not in service", 0.0, table=plan.table), ()
        if plan.version is None:
            chain = self.fitting.chain(chain, principal)
        if question.module is None and (why := withheld(chain)):
            return Plan("", "fallback", why, 0.0, plan.candidates, plan.passed, table=plan.table), ()
        return plan, chain

    def start(self, prepared: Prepared, sink: Sink) -> Ticket:
        """Run a prepared question; its deltas go to `sink` from the scheduler's telling thread.

        Raises:
            InvalidRequest, ContextExceeded, ModelMismatch, ModelChanged, EngineBusy, EngineStopped, ModuleExpired; what
            goes wrong later comes through `sink`.
        """
        request = prepared.request()
        request.weight = 1 if prepared.background else self._weight_of(request.tenant)
        try:
            asked, chain = prepared.question.text, request.lease.records
            for record in chain:  # it may have expired since it was leased
                record.check_unexpired()
            if prepared.part:
                sink = self._comparing.watching(prepared.part, prepared.question, prepared.principal, sink)
            if not prepared.background:
                sink = self._recording.listening(prepared.principal, asked, chain, sink)
            sink = confirming(request.lease, self.model, sink)
            return self.scheduler.submit(request, sink)
        except BaseException as error:
            request.lease.release()
            if prepared.part and isinstance(error, QuireError):
                self._comparing.count(prepared.part, ended_by(error, prepared.part.arm))
            raise

    def ask(self, question: Question, principal: Principal) -> Answer:
        """Prepare and run `question`; iterate over the answer for its deltas. Raises as `prepare` and `start`."""
        return Answer(self, self.prepare(question, principal))

    def _suffix(self, question: Question, layout: Layout, session: str | None, room: int) -> list[int]:
        tokenizer = FittingTokenizer(self.model.tokenizer, room)
        if question.prompt is not None:
            return tokenizer.words(question.prompt)
        said = (turn.content for turn in question.turns)
        replies = self.sessions.replies(session, said) if session is not None else {}
        segments = layout.suffix_segments(tokenizer, question.turns, replies)
        return [token for segment in segments for token in segment]


def _no_route(plan: Plan) -> NoRoute:
    return NoRoute(
        f"no module covers the question: {plan.reason}",
        hint="name a module (quire.module in the request, --module on the command line), or see `quire route explain`",
    )


class Answer(Iterator[Delta]):
    """A running answer for a synchronous caller: iterate for deltas, or call `text()` for all of it."""

    def __init__(self, answerer: Answerer, prepared: Prepared) -> None:
        self.prepared = prepared
        self._answerer = answerer
        self._items: queue.SimpleQueue[Delta | QuireError] = queue.SimpleQueue()
        self._done = False
        self.token_ids: list[int] = []
        self.finish_reason: str | None = None
        self._ticket = answerer.start(prepared, self._items.put)

    @property
    def module(self) -> VersionRecord:
        return self.prepared.module

    @property
    def usage(self) -> Usage:
        return self._ticket.usage or Usage(0, 0, 0)

    @property
    def first_token_seconds(self) -> float:
        """From submission to the first token, restoring not included (`prepared.restored.seconds`)."""
        return self._ticket.first_token_seconds or 0.0

    def __next__(self) -> Delta:
        if self._done:
            raise StopIteration
        item = self._items.get()
        if isinstance(item, QuireError):
            self._done = True
            raise item
        self.token_ids += item.token_ids
        if item.finish_reason:
            self.finish_reason, self._done = item.finish_reason, True
        return item

    def text(self) -> str:
        """Wait for the rest of the answer."""
        return "".join(delta.text for delta in self)

    def cancel(self) -> None:
        """Stop generating."""
        self._answerer.scheduler.cancel(self._ticket)
