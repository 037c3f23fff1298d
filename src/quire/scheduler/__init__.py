"""When a request runs, and with whom.

schedule   who computes what in the next step
fairness   whose turn it is among tenants
places     who gives a place to whom
waiting    the queues
loop       the engine's thread
telling    the thread that tells the answers
ticket     a submitted request
timeline   when what happened
"""

from quire.scheduler.loop import Load, Scheduler
from quire.scheduler.ticket import Sink, Ticket
from quire.scheduler.timeline import WIDTHS, Steps, Timeline

__all__ = ["WIDTHS", "Load", "Scheduler", "Sink", "Steps", "Ticket", "Timeline"]
