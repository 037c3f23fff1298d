"""A question's way from words to tokens: route, lease, lay out, submit. The same for console, API and Python."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quire.compiler import Layout
from quire.core import Delta, Plan, Restored, Sampling, Turn, Usage
from quire.engine import Request
from quire.errors import InvalidRequest, NoLiveVersion, QuireError

if TYPE_CHECKING:
    from quire.engine import Sessions
    from quire.model import LoadedModel
    from quire.pool import ChainLease, Pool
    from quire.registry import Registry, VersionRecord
    from quire.router import Router
    from quire.scheduler import Scheduler, Sink, Ticket


GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. Either `turns` (a conversation, the question last) or `prompt` (text to continue, no markers).

    `module`: ``name`` or ``name@version`` to bypass the rules. `session`: a name under which the KV of these turns is
    kept, so that the next question of the same conversation computes only what is new.
    """

    turns: tuple[Turn, ...] = ()
    prompt: str | None = None
    module: str | None = None
    session: str | None = None
    sampling: Sampling = GREEDY

    @property
    def text(self) -> str:
        """What the router looks at."""
        return self.prompt if self.prompt is not None else (self.turns[-1].content if self.turns else "")


class Prepared:
    """A question with its module leased and its suffix laid out, ready to run once. Release it if it is not run."""

    def __init__(
        self,
        question: Question,
        plan: Plan,
        lease: ChainLease,
        layout: Layout,
        suffix: list[int],
    ) -> None:
        self.question = question
        self.plan = plan
        self.lease = lease
        self.layout = layout
        self.session = question.session
        self.suffix_ids = suffix
        self._settled = False

    @property
    def module(self) -> VersionRecord:
        return self.lease.leaf

    @property
    def restored(self) -> Restored:
        return self.lease.restored

    def provenance(self) -> dict[str, Any]:
        """The `quire` object of an answer: who answered, from which bytes, why, and how it was restored."""
        return {
            "module": self.module.module_id,
            "version": self.module.version,
            "digest": self.module.digest,
            "stage": self.plan.stage,
            "reason": self.plan.reason,
            "confidence": self.plan.confidence,
            "tier": self.restored.tier,
            "restored_tokens": self.restored.tokens,
            "restore_ms": round(self.restored.seconds * 1e3, 3),
        }

    def request(self) -> Request:
        """What the engine runs. From here on the engine gives the chain back: `release` does nothing more.

        Raises:
            InvalidRequest: it was run or released before.
        """
        if self._settled:
            raise InvalidRequest("this question was run or released before", hint="prepare it again")
        self._settled = True
        return Request(self.lease, self.suffix_ids, self.question.sampling, self.layout.stop, self.session)

    def release(self) -> None:
        """Give the chain back unused. May be called twice."""
        if not self._settled:
            self._settled = True
            self.lease.release()


class Answerer:
    """Answers questions from live modules. Thread-safe."""

    def __init__(
        self,
        model: LoadedModel,
        registry: Registry,
        pool: Pool,
        router: Router,
        scheduler: Scheduler,
        sessions: Sessions,
    ) -> None:
        self.model = model
        self.pool = pool
        self.scheduler = scheduler
        self._registry = registry
        self._router = router
        self._sessions = sessions

    def prepare(self, question: Question) -> Prepared:
        """Route `question`, lease its chain, tokenize its suffix. Computes nothing on the model.

        Raises:
            NoRoute, ModuleUnknown, VersionUnknown, NoLiveVersion, ModelMismatch, ArtifactError, StoreError,
            InvalidRequest.
        """
        _check_text(question)
        plan = self._router.route(question.text, module=question.module)
        record = self._registry.resolve(f"{plan.module_id}@{plan.version}" if plan.version else plan.module_id)
        if record.state == "candidate":
            raise NoLiveVersion(f"{record.ref} is a candidate that never went live", hint="run `quire build`")
        lease = self.pool.lease(self._registry.chain(record))
        try:
            layout = Layout.parse(record.inputs.get("layout") or {}, str(record.ref))
            suffix = self._suffix(question, layout)
        except BaseException:
            lease.release()
            raise
        return Prepared(question, plan, lease, layout, suffix)

    def start(self, prepared: Prepared, sink: Sink) -> Ticket:
        """Run a prepared question; its deltas go to `sink` from the scheduler's telling thread.

        Raises:
            InvalidRequest, ContextExceeded, ModelMismatch, EngineBusy, EngineStopped; what goes wrong later comes
            through `sink`.
        """
        request = prepared.request()
        try:
            return self.scheduler.submit(request, sink)
        except BaseException:
            request.lease.release()
            raise

    def ask(self, question: Question) -> Answer:
        """Prepare and run `question`; iterate over the answer for its deltas. Raises as `prepare` and `start`."""
        return Answer(self, self.prepare(question))

    def _suffix(self, question: Question, layout: Layout) -> list[int]:
        tokenizer = self.model.tokenizer
        if question.prompt is not None:
            return tokenizer.words(question.prompt)
        said = (turn.content for turn in question.turns)
        replies = self._sessions.replies(question.session, said) if question.session is not None else {}
        segments = layout.suffix_segments(tokenizer, question.turns, replies)
        return [token for segment in segments for token in segment]


def _check_text(question: Question) -> None:
    if not question.text.strip():
        raise InvalidRequest("the question is empty", hint="send some text")
    for text in (question.prompt or "", *(turn.content for turn in question.turns)):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"the text has half a surrogate pair (U+{ord(text[error.start]):04X}) at character {error.start}",
                hint="send valid Unicode",
            ) from error


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
