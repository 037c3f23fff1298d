"""`quire bench`: measurements on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from quire.bench.options import SECTIONS, Options, parse_sections
from quire.bench.report import print_report
from quire.errors import StoreError

WIDTH = 160  # columns of a pipe: wide enough that a row stays on one line

bench = typer.Typer(no_args_is_help=True, help="Measure this machine: what restoring saves, against transformers.")


@bench.callback()
def _benchmarks() -> None:
    """Measure this machine: what restoring saves, against transformers."""


@bench.command("restore")
def restore(
    model: Annotated[str | None, typer.Option(help="As model.path in quire.toml; default: the built-in model.")] = None,
    document: Annotated[
        Path | None, typer.Option(help="Text, markdown or a SQuAD JSON file; default: the long document of a checkout.")
    ] = None,
    article: Annotated[str | None, typer.Option(help="Title of the SQuAD article; default: the first.")] = None,
    only: Annotated[str, typer.Option(help=f"Sections, with commas between: {', '.join(SECTIONS)}.")] = "",
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; figures are medians over them.")] = 5,
    questions: Annotated[int, typer.Option(min=1, help="Questions asked for token agreement.")] = 20,
    threads: Annotated[int, typer.Option(min=0, help="Cores of one operation; 0: all.")] = 0,
    work: Annotated[
        Path | None,
        typer.Option(help="Directory on a disk, for up to 2.5 GB while it runs; default: the temporary one."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures there, one line; - for standard output.")
    ] = None,
) -> None:
    """Compile one document, restore it, answer from it, and compare each step with plain transformers.

    All in one run, by turns, in medians and ratios. A missed target is shown and does not fail the command. Run it on a
    machine that does nothing else.
    """
    from quire.bench.restore import measure_restore  # PyTorch and transformers: seconds that --help does without

    sections = parse_sections(only)
    to_stdout = json_file == Path("-")
    if json_file is not None and not to_stdout:
        _check_writable(json_file)
    notes = _console(stderr=True)
    options = Options(model, document, article, repeat, questions, threads, work)
    with notes.status("starting") as status:
        report = measure_restore(options, sections, lambda text: status.update(escape(text)))
    print_report(report, notes if to_stdout else _console(stderr=False))
    if to_stdout:
        typer.echo(report.to_json())
    elif json_file is not None:
        _write(json_file, report.to_json() + "\n")


def _console(*, stderr: bool) -> Console:
    piped = not (sys.stderr if stderr else sys.stdout).isatty() and "COLUMNS" not in os.environ
    return Console(stderr=stderr, width=WIDTH if piped else None)


def _check_writable(path: Path) -> None:
    """Refuse now what would fail after many minutes."""
    try:
        with path.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise StoreError.from_os(error, path) from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError.from_os(error, path) from error
