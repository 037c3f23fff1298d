"""What the two versions of a canary do is counted; in the shadow the second is asked when the first has answered."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from quire.core import Delta
from quire.errors import (
    ContextExceeded,
    EngineBusy,
    EngineStopped,
    InvalidRequest,
    QuireError,
    RequestCancelled,
    ResourceError,
)
from quire.golden import f1
from quire.registry import figures

if TYPE_CHECKING:
    from quire.access import Principal
    from quire.answering.answers import Answer, Answerer
    from quire.answering.parts import Part
    from quire.answering.questions import Question
    from quire.registry import Canaries
    from quire.scheduler import Sink

log = logging.getLogger(__name__)

WAITING = 16  # shadows; what comes when so many wait is dropped
CUT = ("length", "repetition")  # reasons of answers that did not end by themselves
EVERY = 0.5  # seconds between two writes of figures


@dataclass(frozen=True, slots=True)
class _Shadow:
    part: Part
    question: Question
    principal: Principal
    said: str  # by the live version


class Comparing:
    """Counts answers of canaries, runs shadows one at a time, and keeps figures. Thread-safe; has one thread."""

    def __init__(self, canaries: Canaries) -> None:
        self._canaries = canaries
        self._changed = threading.Condition()
        self._waiting: deque[_Shadow] = deque()
        self._seen: dict[int, Counter[str]] = {}
        self._totals: Counter[str] = Counter()  # of all canaries, since the start
        self._closing = False
        self._running: Answer | None = None
        self._thread: threading.Thread | None = None

    def begin(self, answerer: Answerer) -> None:
        """Start, with who asks. To be called once."""
        self._thread = threading.Thread(target=self._run, args=(answerer,), name="quire-canary", daemon=True)
        self._thread.start()

    def count(self, part: Part, seen: Counter[str]) -> None:
        """Add to the figures of the canary; written within a second."""
        with self._changed:
            self._totals.update(seen)
            self._seen.setdefault(part.canary.number, Counter()).update(seen)
            self._changed.notify_all()

    def totals(self) -> Counter[str]:
        """The figures of all canaries together, as this process has seen them since its start."""
        with self._changed:
            return Counter(self._totals)

    def watching(self, part: Part, question: Question, principal: Principal, sink: Sink) -> Sink:
        """`sink`, and when the answer has ended the figures of it, and its shadow."""
        began = time.perf_counter()
        first: list[float] = []
        said: list[str] = []
        tokens = 0

        def watch(item: Delta | QuireError) -> None:
            nonlocal tokens
            sink(item)
            now = time.perf_counter() - began
            if isinstance(item, QuireError):
                self.count(part, ended_by(item, part.arm))
                return
            said.append(item.text)
            tokens += len(item.token_ids)
            if item.token_ids and not first:
                first.append(now)
            if item.finish_reason == "cancelled":
                self.count(part, figures.left(part.arm))
            elif item.finish_reason:
                cut = item.finish_reason in CUT
                self.count(part, figures.answered(part.arm, first[0] if first else None, now, tokens, cut=cut))
                if part.shadowed:
                    self._queue(_Shadow(part, question, principal, "".join(said)))

        return watch

    def close(self) -> None:
        """Write what was seen and end; shadows that wait are dropped. May be called twice."""
        with self._changed:
            self._closing = True
            if self._running is not None:
                self._running.cancel()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _queue(self, shadow: _Shadow) -> None:
        with self._changed:
            if self._closing or len(self._waiting) >= WAITING:
                self._seen.setdefault(shadow.part.canary.number, Counter()).update(dropped=1)
            else:
                self._waiting.append(shadow)
            self._changed.notify_all()

    def _run(self, answerer: Answerer) -> None:
        written_at = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._seen or self._closing)
                shadow = self._waiting.popleft() if self._waiting and not self._closing else None
                closing = self._closing
            if shadow is not None:
                self.count(shadow.part, self._run_shadow(answerer, shadow))
            if closing or time.monotonic() - written_at >= EVERY:
                self._write()
                written_at = time.monotonic()
            elif shadow is None:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._closing, timeout=EVERY)
            if closing:
                return

    def _run_shadow(self, answerer: Answerer, shadow: _Shadow) -> Counter[str]:
        """Ask the candidate what the live version answered. Dropped where others wait for the engine."""
        if answerer.scheduler.load().waiting:
            return Counter(dropped=1)
        question = replace(shadow.question, session=None, module=None)
        began = time.perf_counter()
        try:
            answer = answerer.try_out(question, shadow.part.candidate, shadow.principal)
            with self._changed:
                self._running = answer
            text = answer.text()
        except QuireError as error:
            log.info("a shadow of %s failed: %s", shadow.part.canary.ref, error.message)
            return figures.failed("shadow")
        finally:
            with self._changed:
                self._running = None
        if answer.finish_reason == "cancelled":
            return Counter(dropped=1)
        whole = time.perf_counter() - began
        same = figures.compared(identical=text == shadow.said, overlap=f1(shadow.said, text))
        tokens, cut = answer.usage.completion, answer.finish_reason in CUT
        return figures.answered("shadow", answer.first_token_seconds, whole, tokens, cut=cut) + same

    def _write(self) -> None:
        with self._changed:
            seen, self._seen = self._seen, {}
        try:
            if seen:
                self._canaries.add(seen)
        except QuireError as error:
            log.warning("figures of canaries cannot be written now: %s", error.message)
            with self._changed:
                for number, counts in seen.items():
                    self._seen.setdefault(number, Counter()).update(counts)
            if not self._closing:
                time.sleep(EVERY)


def ended_by(error: QuireError, arm: figures.Arm) -> Counter[str]:
    """The figures of a request that `error` ended: who is refused was not answered wrongly."""
    if isinstance(error, RequestCancelled):
        return figures.left(arm)
    refused = isinstance(error, EngineBusy | EngineStopped | ContextExceeded | InvalidRequest | ResourceError)
    return figures.refused(arm) if refused else figures.failed(arm)
