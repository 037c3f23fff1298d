"""`quire build --watch`: build, wait until a file that matters was touched, build again."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from quire.cli.opening import open_project
from quire.errors import BuildBusy, BuildInterrupted, QuireError
from quire.settings import PROJECT_FILE
from quire.staleness import in_build_order, look, places_of, stamps_of, wait_for_change
from quire.stopping import stop_signals

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from quire.cli.screen import Screen
    from quire.project import Project
    from quire.settings import Settings
    from quire.staleness import Stamps

SETTLE_SECONDS = 0.2  # without another change, so that an editor or a checkout has finished


def keep_building(
    directory: Path | None, screen: Screen, build_once: Callable[[Project], None], *, only: Sequence[str] = ()
) -> None:
    """Call `build_once` now and after each change, until the first SIGINT or SIGTERM.

    After an error, what is live serves on, and the next change is another try. The model stays loaded until it, the
    layout or the project file changes.

    Raises:
        What opening the project raises the first time; ModuleUnknown of a name in `only` that is not declared then.
    """
    with stop_signals() as stop, ExitStack() as held:
        project: Project | None
        project = opened = held.enter_context(open_project(directory, screen))
        settings = opened.settings
        declared = {spec.module_id for spec in settings.modules}
        if unknown := [name for name in only if name not in declared]:
            in_build_order(settings.modules, unknown)
        while True:
            seen = look(settings)
            try:
                if project is None:
                    project = held.enter_context(open_project(directory, screen))
                    settings = project.settings
                    seen = look(settings)
                build_once(project)
                seen |= stamps_of(places_of(settings))  # known since the model was identified
            except BuildInterrupted as error:
                screen.note(error.message)
                return
            except BuildBusy as error:
                screen.note(f"{error.message}; trying again")
                seen = {}
            except QuireError as error:
                screen.error(error)
                screen.note("what is live serves on; the next change is another try")
            screen.note(f"watching {len(seen)} files; Ctrl-C ends it")
            found = _next(settings, seen, stop)
            if found is None:
                return
            if _needs_opening(settings, seen, found):
                held.close()
                project = None


def _next(settings: Settings, seen: Stamps, stop: threading.Event) -> Stamps | None:
    interval = settings["build.watch_seconds"]
    settle = min(interval, SETTLE_SECONDS)
    return wait_for_change(lambda: look(settings), seen, stop, interval=interval, settle=settle)


def _needs_opening(settings: Settings, before: Stamps, now: Stamps) -> bool:
    """Whether what changed is more than sources and golden files, which every build reads anew."""
    changed = {path for path in before.keys() | now.keys() if before.get(path) != now.get(path)}
    once = [str(settings.root / PROJECT_FILE), *map(str, places_of(settings))]
    if layout := settings["layout.file"]:
        once.append(str(settings.root / layout))
    return any(path == place or path.startswith(f"{place}/") for path in changed for place in once)
