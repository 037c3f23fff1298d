"""When a request runs, and with whom."""

from quire.scheduler.loop import Load, Scheduler, Sink, Ticket

__all__ = ["Load", "Scheduler", "Sink", "Ticket"]
