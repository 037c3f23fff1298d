"""Which module answers a question, and why."""

from quire.router.rules import Router

__all__ = ["Router"]
