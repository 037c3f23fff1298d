"""A connection to Redis that gives up in time, and one question: did it answer?"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from quire.errors import InvalidSetting

if TYPE_CHECKING:
    from redis import Redis as Client

log = logging.getLogger(__name__)

ANSWER_SECONDS = 0.3  # it answers in less than a millisecond, or something is wrong with it
AGAIN_SECONDS = 1.0  # for which one that did not answer is left alone
_Answer = TypeVar("_Answer")


class Redis:
    """Thread-safe. Connects at the first question."""

    def __init__(self, client: Client, place: str, prefix: str) -> None:
        self.client = client
        self.place = place
        self.prefix = prefix
        self._down_until = 0.0
        self._is_down = False

    @property
    def is_down(self) -> bool:
        """Whether the last question was not answered."""
        return self._is_down

    def ask(self, question: Callable[[], _Answer]) -> _Answer | None:
        """What `question` gives; None while Redis is gone, at once if that was found out within the last second."""
        from redis.exceptions import RedisError

        if time.monotonic() < self._down_until:
            return None
        try:
            answer = question()
        except (RedisError, OSError) as error:
            self._down_until = time.monotonic() + AGAIN_SECONDS
            if not self._is_down:
                log.error("Redis at %s does not answer: %s", self.place, " ".join(str(error).split()))
            self._is_down = True
            return None
        if self._is_down:
            log.warning("Redis at %s answers again", self.place)
        self._is_down = False
        return answer

    def close(self) -> None:
        self.client.close()


def open_redis(url: str, prefix: str) -> Redis:
    """A connection to ``redis://host:6379/0``, ``rediss://`` for TLS or ``unix://``. `prefix`: of all names there.

    Raises:
        InvalidSetting: the URL is none of Redis, or the driver is not installed.
    """
    try:
        from redis import Redis as Client
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ModuleNotFoundError as error:
        raise InvalidSetting(
            f"redis.url needs the driver {error.name!r}, which is not installed", hint="pip install 'quire[redis]'"
        ) from error
    patience: dict[str, Any] = {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}
    try:
        # One more try: the first may only find out that an idle connection has gone.
        client = Client.from_url(url, retry=Retry(NoBackoff(), 1), decode_responses=True, **patience)
        place = _shown(urlsplit(url))
    except ValueError as error:
        raise InvalidSetting(
            "redis.url is no URL of Redis", hint="such as redis://host:6379/0, rediss:// for TLS"
        ) from error
    return Redis(client, place, prefix)


def _shown(url: SplitResult) -> str:
    """Without names and passwords."""
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{url.hostname or ''}{port}{url.path}"
