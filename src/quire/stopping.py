"""Asking long work to stop between two steps, and the end of the interpreter."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Set by the first SIGINT or SIGTERM, to be read between steps; the second acts as usual.

    In another thread than the main one, which alone receives signals, it is never set.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def at_exit(close: Callable[[], None]) -> Callable[[], None]:
    """Have `close` called when the interpreter ends, before it is torn down; gives what takes that back.

    A thread that computes in native code while the interpreter goes away under it crashes the process, so whoever has
    such a thread ends it here, however the program ends. A signal that comes meanwhile ends the process as the system
    does it, since an exception would leave the thread running.
    """
    process = os.getpid()

    def leave() -> None:
        if os.getpid() != process:
            return  # a fork has none of the threads
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        close()

    atexit.register(leave)
    return lambda: atexit.unregister(leave)
