"""Whether a file was touched that decides what modules are made of.

By polling: the stamps of a thousand files take a few milliseconds, on every file system, network shares and
containers' mounts included, where the system's own notices do not come. Decision 18 says what was weighed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from quire import sources
from quire.errors import SourceError
from quire.settings import PROJECT_FILE
from quire.staleness.identity import Stamps, places_of, stamps_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from quire.settings import Settings

GOLDEN = "golden"  # the directory of golden files
SETTLES = 50  # how often a change may go on before it is taken as it is


def look(settings: Settings) -> Stamps:
    """Stamps of the project file, the layout, the model's files, golden files and all that lies where sources do.

    Never fails. A file that is no source may be among them: then something is looked at that is as it was.
    """
    found = {settings.root / PROJECT_FILE, settings.root / GOLDEN, *places_of(settings)}
    if layout := settings["layout.file"]:
        found.add(settings.root / layout)
    for spec in settings.modules:
        found.update(settings.root / name for name in spec.golden)
        with suppress(SourceError):  # a pattern that is none: the build will say so
            found.update(sources.places(settings.root, spec.sources))
    return stamps_of(found)


def wait_for_change(
    looks: Callable[[], Stamps], seen: Stamps, stop: threading.Event, *, interval: float, settle: float
) -> Stamps | None:
    """Wait until `looks` gives something else than `seen`, and then the same twice; None once `stop` is set.

    Args:
        interval: seconds between two looks.
        settle: seconds in which nothing more may change, so that an editor or a checkout has finished.
    """
    while not stop.wait(interval):
        found = looks()
        if found == seen:
            continue
        for _ in range(SETTLES):
            if stop.wait(settle):
                return None
            again = looks()
            if again == found:
                break
            found = again
        return found
    return None
