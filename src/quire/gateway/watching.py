"""The server's own look at the sources: what is stale is noted in the registry soon after somebody changed a file."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from quire.errors import QuireError
from quire.project import Project
from quire.registry import server_actor
from quire.settings import PROJECT_FILE, load_settings
from quire.staleness import Checkout, look
from quire.telemetry import fields

if TYPE_CHECKING:
    from quire.registry import Registry, VersionRecord
    from quire.settings import Settings
    from quire.staleness.identity import Stamps

log = logging.getLogger(__name__)


def open_watch(project: Project) -> StalenessWatch | None:
    """The watch of a project; None where it is switched off, or nothing is declared."""
    interval = project.settings["server.watch_seconds"]
    if not interval or not (project.settings.root / PROJECT_FILE).is_file():
        return None
    return StalenessWatch(project.settings, project.registry, interval)


class StalenessWatch:
    """A thread that looks every some seconds whether a file was touched that modules are made of, or the registry
    changed, and then notes what is stale and takes readers away whom an acl leaves out, as far as this checkout may.
    Start it once."""

    def __init__(self, settings: Settings, registry: Registry, interval: float) -> None:
        """`interval`: seconds."""
        self._settings = settings
        self.registry = registry
        self._interval = interval
        self._checkout = Checkout(settings, actor=server_actor(), machine=True)
        self._seen: tuple[Stamps, int] | None = None
        self._logged: set[str] = set()  # versions that were logged as foreign
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quire-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends after the look in progress."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def foreign(self) -> int:
        """How many live versions this checkout never agreed with, so that it does not report on them."""
        return len(self._checkout.foreign)

    def look(self) -> None:
        """Look once, and report what changed. Mutates the registry. Raises QuireError; the next look tries again.

        It takes the stamps before it reads the sources, so that the next look sees what changes in between.
        """
        stamps = look(self._settings)
        file = str(self._settings.root / PROJECT_FILE)
        if self._seen is None or stamps.get(file) != self._seen[0].get(file):
            self._settings = _reread(self._settings)
            stamps = look(self._settings)
        generation = self.registry.generation()
        if self._seen != (stamps, generation) or self._checkout.has_due(self.registry):
            with Project(self._settings, registry=self.registry) as project:
                for record in project.narrow(self._checkout):
                    log.warning(
                        "readers were taken away", extra=fields(module=str(record.ref), to=str(record.narrowed))
                    )
                _tell(project.mark(checkout=self._checkout))
            self._log_foreign()
            self._seen = stamps, generation
        self.registry.audit.record(())  # the counts of folded records whose window is over

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except QuireError as error:  # looked at again after the interval; what was known stays
                log.warning("staleness cannot be told", extra=fields(why=error.message, hint=error.hint))
            if self._stop.wait(self._interval):
                return

    def _log_foreign(self) -> None:
        """Each version once."""
        foreign = self._checkout.foreign
        for name in foreign.keys() - self._logged:
            log.warning(
                "a live version was not built from this checkout, which does not report on it",
                extra=fields(module=name, triggers=",".join(foreign[name])),
            )
        self._logged = set(foreign)


def _reread(settings: Settings) -> Settings:
    """The project as its file has it now, with this process's environment."""
    file = settings.root / PROJECT_FILE
    return load_settings(file, os.environ) if file.is_file() else settings


def _tell(changed: list[VersionRecord]) -> None:
    for record in changed:
        if record.stale:
            triggers = ",".join(record.stale.triggers)
            log.warning("a module is stale", extra=fields(module=str(record.ref), triggers=triggers))
        else:
            log.info("a module is not stale any more", extra=fields(module=str(record.ref)))
