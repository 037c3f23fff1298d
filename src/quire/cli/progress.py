"""A bar for what is counted, where somebody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from quire.cli.screen import Screen


@contextmanager
def counting(screen: Screen, what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A function to be told how much is done, and of how much."""
    with Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=screen.notes,
        transient=True,
        disable=screen.as_json or not screen.notes.is_terminal,
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
