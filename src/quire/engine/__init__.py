"""Generation from leased chains.

base       the contract
local      transformers in this process
run        one request on its way
opening    what every conversation behind a module begins with
guessing   tokens that may come next, checked in the same step
refusing   requests that cannot be meant
sampling   the next token of every request
filters    what a drawn token may be
wording    from tokens to text
text       detokenization, stop strings
sessions   earlier turns, kept
memory     how much room there is
"""

from quire.engine.base import Engine, Portion, Request, Token
from quire.engine.local import LocalEngine
from quire.engine.memory import suffix_space
from quire.engine.run import Run
from quire.engine.sessions import Session, Sessions

__all__ = ["Engine", "LocalEngine", "Portion", "Request", "Run", "Session", "Sessions", "Token", "suffix_space"]
