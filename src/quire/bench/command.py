"""`quire bench`: measurements on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from quire.bench.engine.options import (
    ARMS,
    ENGINE_SECTIONS,
    LEVELS,
    EngineOptions,
    check_plot,
    parse_arms,
    parse_engine_sections,
    parse_levels,
)
from quire.bench.options import SECTIONS, Options, parse_sections
from quire.bench.report import print_report
from quire.errors import StoreError

WIDTH = 160  # columns of a pipe: wide enough that a row stays on one line

bench = typer.Typer(no_args_is_help=True, help="Measure this machine: what restoring saves and how fast the engine is.")


@bench.callback()
def _benchmarks() -> None:
    """Measure this machine: what restoring saves and how fast the engine is."""


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
    _emit(report.to_json(), json_file)


@bench.command("engine")
def engine(
    model: Annotated[str | None, typer.Option(help="As model.path in quire.toml; default: the built-in model.")] = None,
    document: Annotated[
        Path | None, typer.Option(help="Text, markdown or a SQuAD JSON file; default: the long document of a checkout.")
    ] = None,
    article: Annotated[str | None, typer.Option(help="Title of the SQuAD article; default: the first.")] = None,
    arms: Annotated[str, typer.Option(help=f"Who answers, with commas between: {', '.join(ARMS)}.")] = "",
    concurrency: Annotated[str, typer.Option(help="Requests at once, with commas between.")] = ",".join(
        map(str, LEVELS)
    ),
    only: Annotated[str, typer.Option(help=f"Sections, with commas between: {', '.join(ENGINE_SECTIONS)}.")] = "",
    repeat: Annotated[int, typer.Option(min=1, help="Repetitions; figures are medians over them.")] = 3,
    threads: Annotated[int, typer.Option(min=0, help="Cores of one operation; 0: all.")] = 0,
    full: Annotated[
        bool, typer.Option("--full", help="Let transformers answer every request; else it is scaled up from 4.")
    ] = False,
    vllm: Annotated[
        str,
        typer.Option(help="auto: an environment made on first use, 3.4 GB; skip; or the path of a Python with vLLM."),
    ] = "auto",
    pip_flags: Annotated[str, typer.Option(help="For making that environment, such as --extra-index-url URL.")] = "",
    work: Annotated[
        Path | None,
        typer.Option(help="Directory on a disk, for the compiled document while it runs; default: the temporary one."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the figures there, .png or .svg.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures there, one line; - for standard output.")
    ] = None,
) -> None:
    """Let Quire, transformers and vLLM answer the same requests on one document, alone and many at once.

    Each in a process of its own, by turns, in medians and ratios, beside what the machine allows. A missed target is
    shown and does not fail the command; an arm that fails is reported, and the others go on. Run it on a machine that
    does nothing else.
    """
    options = EngineOptions(
        model=model,
        document=document,
        article=article,
        arms=parse_arms(arms, vllm),
        levels=parse_levels(concurrency),
        sections=parse_engine_sections(only),
        repeat=repeat,
        threads=threads,
        full=full,
        vllm=vllm,
        pip_flags=pip_flags,
        work=work,
    )
    to_stdout = json_file == Path("-")
    if plot is not None:
        check_plot(plot, options.sections)
    for file in (plot, None if to_stdout else json_file):
        if file is not None:
            _check_writable(file)
    from quire.bench.engine.measure import measure_engine  # PyTorch and transformers, as above
    from quire.bench.engine.plot import draw
    from quire.bench.engine.report import print_engine_report

    notes = _console(stderr=True)
    with notes.status("starting") as status:
        report = measure_engine(options, lambda text: status.update(escape(text)))
    print_engine_report(report, notes if to_stdout else _console(stderr=False))
    _emit(report.to_json(), json_file)
    if plot is not None:
        draw(report, plot)


def _emit(line: str, file: Path | None) -> None:
    if file == Path("-"):
        typer.echo(line)
    elif file is not None:
        _write(file, line + "\n")


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
