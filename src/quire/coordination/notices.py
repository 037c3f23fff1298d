"""Word of changes. It may get lost, as when Redis is gone: then the next look at the registry finds the change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from quire.coordination.client import AGAIN_SECONDS, Redis

WAIT_SECONDS = 0.5  # for the next word, and then whether to stop


class Notices:
    """Tells others which generation the registry is at, and hears it from them."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._channel = f"{redis.prefix}:changes"
        self._newest = f"{redis.prefix}:generation"
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def tell(self, generation: int) -> None:
        """Say that the registry is at `generation` now. Takes no longer than Redis is waited for; never raises."""

        def say() -> bool:
            with self._redis.client.pipeline() as both:
                both.set(self._newest, generation)
                both.publish(self._channel, generation)
                both.execute()
            return True

        self._redis.ask(say)

    def listen(self, heard: Callable[[int], None]) -> None:
        """Call `heard` with every generation that somebody tells, from a thread, until `close`.

        Also with the newest at the beginning, and after Redis was gone: what was told meanwhile was not heard.
        """
        self._thread = threading.Thread(target=self._run, args=(heard,), name="quire-notices", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """May be called twice."""
        self._stopping.set()
        if self._thread:
            self._thread.join()
            self._thread = None

    def _run(self, heard: Callable[[int], None]) -> None:
        while not self._stopping.is_set():
            self._redis.ask(lambda: self._hear(heard))
            self._stopping.wait(AGAIN_SECONDS)

    def _hear(self, heard: Callable[[int], None]) -> None:
        client: Any = self._redis.client  # its pubsub() has no types
        with client.pubsub(ignore_subscribe_messages=True) as channel:
            channel.subscribe(self._channel)
            if newest := client.get(self._newest):
                heard(int(newest))
            while not self._stopping.is_set():
                message = channel.get_message(timeout=WAIT_SECONDS)
                if message and message["type"] == "message":
                    heard(int(message["data"]))
