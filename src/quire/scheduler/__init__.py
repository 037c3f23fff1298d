"""When a request runs, and with whom.

schedule   who computes what in the next step
loop       the engine's thread
telling    the thread that tells the answers
ticket     a submitted request
"""

from quire.scheduler.loop import Load, Scheduler
from quire.scheduler.ticket import Sink, Ticket

__all__ = ["Load", "Scheduler", "Sink", "Ticket"]
