"""The router of the table that is in force, also after another process has changed it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from quire.router.router import Router
from quire.router.table import RouteTable
from quire.telemetry import fields

if TYPE_CHECKING:
    from quire.registry import RouteTables

log = logging.getLogger(__name__)
FRESH = 0.25  # seconds for which the registry is not asked again


class LiveRoutes:
    """Gives the current router. Thread-safe: one thread loads a new table while others go by the old one."""

    def __init__(self, tables: RouteTables, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tables = tables
        self._clock = clock
        self._loading = threading.Lock()
        self._asked_at = float("-inf")
        self._router = Router(RouteTable())
        self._digest: str | None = None

    def current(self) -> Router:
        """The router of the table in force, a moment late; one without modules before the first table.

        Raises:
            RegistryError, RouteTableInvalid: the table cannot be had. The next call tries again.
        """
        if self._clock() - self._asked_at < FRESH:
            return self._router
        first = self._asked_at == float("-inf")
        if not self._loading.acquire(blocking=first):
            return self._router
        try:
            if self._tables.digest_in_force() != self._digest:
                self._load()
            self._asked_at = self._clock()
            return self._router
        finally:
            self._loading.release()

    def _load(self) -> None:
        version = self._tables.in_force()
        if version is not None:
            self._router = Router(RouteTable.parse(version.document, version.weights))
            self._digest = version.digest
            for told in self._router.unusable:
                log.warning("a pattern of the route table is left out", extra=fields(why=told))
