"""What servers tell each other beside the registry, through Redis. All works without it, a little later or looser.

client    a connection that gives up in time    notices   word of changes, so that nobody waits for the next look
"""

from quire.coordination.client import Redis, open_redis
from quire.coordination.notices import Notices

__all__ = ["Notices", "Redis", "open_redis"]
