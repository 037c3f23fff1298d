"""What a person or a script sees: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from datetime import datetime

    from quire.errors import QuireError

PIPE_COLUMNS = 160  # nobody resizes a pipe: wide enough that a row of a table stays on one line


class Screen:
    """Tables for people, or one JSON value for scripts, on stdout; notes, progress and errors on stderr."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.out = _console(stderr=False)
        self.notes = _console(stderr=True)

    def show(self, value: Any, *renderables: RenderableType) -> None:
        """The result: `value` as JSON where JSON is wanted, else `renderables`."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
            return
        for renderable in renderables:
            self.out.print(renderable)

    def line(self, value: Any) -> None:
        """One result of several, as a line of JSON, for scripts that read along."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Something worth knowing beside the result. Scripts do not get it."""
        if not self.as_json:
            self.notes.print(f"[dim]{escape(text)}[/dim]", highlight=False, soft_wrap=True)

    def waiting(self, text: str) -> AbstractContextManager[object]:
        """A spinner beside `text` while the block runs, where somebody watches."""
        if self.as_json or not self.notes.is_terminal:
            return nullcontext()
        return self.notes.status(escape(text))

    def error(self, error: QuireError) -> None:
        """What went wrong and what to do next."""
        if self.as_json:
            body = {"code": error.code, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}
            sys.stderr.write(json.dumps({"error": body}, ensure_ascii=False) + "\n")
            return
        self.notes.print(f"[bold red]error:[/bold red] {escape(error.message)}", highlight=False, soft_wrap=True)
        if error.hint:
            self.notes.print(f"[bold]hint:[/bold] {escape(error.hint)}", highlight=False, soft_wrap=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    piped = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(stderr=stderr, width=PIPE_COLUMNS if piped else None)


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table in the house style. A column that ends in ``>`` is aligned to the right."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left", overflow="fold")
    return made


def facts(pairs: dict[str, object]) -> Table:
    """Names and values, one pair a line; empty values are left out."""
    made = table("", "")
    made.show_header = False
    for name, value in pairs.items():
        if value not in (None, ""):
            made.add_row(f"[dim]{escape(name)}[/dim]", escape(str(value)))
    return made


def size(count: float) -> str:
    """Bytes as people read them: ``25.9 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as people read them: ``3 ms``, ``4.2 s``, ``2 min 05 s``."""
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms" if seconds < 0.01 else f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def moment(at: datetime) -> str:
    """A time in UTC, to the minute."""
    return f"{at:%Y-%m-%d %H:%M}Z"


def short(digest: str) -> str:
    """Enough of a digest to tell it from others: its tag and twelve digits."""
    tag, _, digits = digest.partition(":")
    return f"{tag}:{digits[:12]}"
