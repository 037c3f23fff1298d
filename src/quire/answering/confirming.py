"""The end of an answer is given out when the bytes that it was computed from are still those that were verified."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from quire.errors import EngineError, QuireError

if TYPE_CHECKING:
    from quire.core import Delta
    from quire.model import LoadedModel
    from quire.pool import ChainLease
    from quire.scheduler import Sink


log = logging.getLogger(__name__)


def confirming(lease: ChainLease, model: LoadedModel, sink: Sink) -> Sink:
    """`sink`, which gets an answer's last item after the files of its chain and of the model have been looked at.

    That costs some `stat` calls. Only files that were touched are read and compared with their digests, in a thread of
    its own; if they differ, `sink` gets ModuleChanged or ModelChanged in the place of the last delta, or of the error
    that came of it: bytes at random give numbers that nothing can be chosen from.
    """

    def put(item: Delta | QuireError) -> None:
        ends = isinstance(item, QuireError) or item.finish_reason not in (None, "cancelled")
        if ends and not (lease.untouched and model.files.untouched):
            threading.Thread(target=compare, args=(item,), name="quire-confirming", daemon=True).start()
        else:
            sink(item)

    def compare(item: Delta | QuireError) -> None:
        try:
            lease.verify()
            model.verify()
        except QuireError as error:
            sink(error)
        except Exception as error:  # the caller waits for an end
            log.exception("files could not be compared at the end of an answer")
            sink(EngineError(f"the answer could not be confirmed: {error}", hint="the log has the details"))
        else:
            sink(item)

    return put
