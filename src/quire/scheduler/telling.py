"""The second thread: what the engine chose becomes text and goes to its callers, while the engine computes on."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from quire.core import Delta, FinishReason
from quire.engine import Token
from quire.errors import EngineError, QuireError

if TYPE_CHECKING:
    from quire.scheduler.ticket import Ticket

log = logging.getLogger(__name__)

AHEAD = 1  # steps that wait to be told: what is computed after a stop string, in vain, is one token more than that


Item = Token | FinishReason | QuireError
Items = Sequence[tuple["Ticket", Item]]


class Teller:
    """Tells callers about their requests, in the order of the steps.

    A request's last item is given to `tell` after the engine has freed all that the request held.
    """

    def __init__(self) -> None:
        self._steps: queue.Queue[Items | None] = queue.Queue(AHEAD)
        self._thread = threading.Thread(target=self._run, name="quire-telling", daemon=True)
        self._thread.start()

    def tell(self, items: Items) -> None:
        """Queue what a step brought; waits while `AHEAD` steps are queued."""
        self._steps.put(items)

    def stop(self) -> None:
        """Tell what is queued and end. To be called once."""
        self._steps.put(None)
        self._thread.join()

    def _run(self) -> None:
        while self._tell_step():
            pass

    def _tell_step(self) -> bool:
        # A call of its own, so that while it waits the thread holds no request, and with it no module's files.
        items = self._steps.get()
        for ticket, item in items or ():
            said = _worded(ticket, item)
            if said is not None:
                _tell(ticket, said)
        return items is not None


def _worded(ticket: Ticket, item: Item) -> Delta | QuireError | None:
    """What `item` means to the caller, if anything. Mutates the ticket."""
    if isinstance(item, QuireError):
        return item
    wording = ticket.run.wording
    if isinstance(item, Token) and not (wording.stopped or ticket.failure):
        try:
            return wording.push(item)
        except Exception as error:  # of one request: this thread goes on with the others
            log.exception("a token could not be told")
            ticket.failure = EngineError(f"the answer's text failed: {error}", hint="the log has the details")
            ticket.cancelled = True
    last = item.reason if isinstance(item, Token) else item
    return last and (ticket.failure or wording.close(last))


def _tell(ticket: Ticket, said: Delta | QuireError) -> None:
    if isinstance(said, QuireError) or said.finish_reason:
        ticket.run.remember()
    if ticket.first_token_seconds is None and isinstance(said, Delta) and said.token_ids:
        ticket.first_token_seconds = time.perf_counter() - ticket.times.submitted
    try:
        ticket.sink(said)
    except Exception:  # a sink that raises is a caller that is gone: its event loop has closed, or the like
        log.exception("a request's sink failed: the request ends")
        ticket.cancelled = True
