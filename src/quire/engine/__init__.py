"""Generation from leased chains.

base       the contract
local      transformers in this process
sequence   one request on its way
sampling   the next token
text       detokenization, stop strings
sessions   earlier turns, kept
"""

from quire.engine.base import Engine, Request
from quire.engine.local import LocalEngine
from quire.engine.sequence import Running
from quire.engine.sessions import Session, Sessions

__all__ = ["Engine", "LocalEngine", "Request", "Running", "Session", "Sessions"]
