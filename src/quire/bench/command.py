"""`quire bench`: measurements on this machine."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from quire.bench.device.options import LENGTHS, SHAPE_NAMES, DeviceOptions, parse_lengths, parse_shape
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
    """Compile one document, restore it, answer from it, and compare each step with doing it without Quire.

    A full prefill is the fastest of this machine, found by a short try: transformers in the model's dtype or in
    float32, or this engine's own.

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


@bench.command("device")
def device(
    name: Annotated[str, typer.Option("--device", help="As model.device in quire.toml.")] = "cuda",
    shape: Annotated[str, typer.Option(help=f"Of the model, whose weights are random: {', '.join(SHAPE_NAMES)}.")] = (
        SHAPE_NAMES[0]
    ),
    lengths: Annotated[str, typer.Option(help="Tokens of the documents, with commas between.")] = ",".join(
        map(str, LENGTHS)
    ),
    requests: Annotated[int, typer.Option(min=1, help="Requests decoded together.")] = 64,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; figures are medians over them.")] = 5,
    work: Annotated[
        Path | None,
        typer.Option(help="Directory on a disk, for the longest document's KV; default: the temporary one."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures there, one line; - for standard output.")
    ] = None,
) -> None:
    """Restore documents to a GPU and decode behind them, beside what its bus and its memory allow.

    A model of a real one's shape with random weights, so nothing is downloaded. Needs a GPU with room for the weights
    and twice the longest document's KV; `--shape tiny --device cpu` runs the same code without one, for its own sake.
    """
    options = DeviceOptions(name, parse_shape(shape), parse_lengths(lengths), requests, repeat, work)
    to_stdout = json_file == Path("-")
    if json_file is not None and not to_stdout:
        _check_writable(json_file)
    from quire.bench.device.measure import measure_device  # PyTorch and transformers, as above
    from quire.bench.device.report import print_device_report

    notes = _console(stderr=True)
    with notes.status("starting") as status:
        report = measure_device(options, lambda text: status.update(escape(text)))
    print_device_report(report, notes if to_stdout else _console(stderr=False))
    _emit(report.to_json(), json_file)


@bench.command("fairness")
def fairness(
    model: Annotated[str | None, typer.Option(help="As model.path in quire.toml; default: the built-in model.")] = None,
    document: Annotated[
        Path | None, typer.Option(help="Text, markdown or a SQuAD JSON file; default: the long document of a checkout.")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds: a calm phase and a flood each.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Of each phase.")] = 20.0,
    load: Annotated[
        float, typer.Option(min=0.05, max=1.0, help="Of its share, what a tenant sends that keeps to it.")
    ] = 0.5,
    sequences: Annotated[int, typer.Option(min=1, help="engine.max_sequences: requests computed together.")] = 16,
    threads: Annotated[int, typer.Option(min=0, help="Cores of one operation; 0: all.")] = 0,
    work: Annotated[
        Path | None,
        typer.Option(help="Directory on a disk, for the compiled document while it runs; default: the temporary one."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures there, one line; - for standard output.")
    ] = None,
) -> None:
    """Let one of two tenants send ten times its share, and measure what the other feels.

    Run it on a machine that does nothing else. A missed target is shown and does not fail the command.
    """
    from quire.bench.fairness import measure_fairness  # PyTorch and transformers, as above

    to_stdout = json_file == Path("-")
    if json_file is not None and not to_stdout:
        _check_writable(json_file)
    notes = _console(stderr=True)
    options = Options(model, document, None, repeat, 64, threads, work, sequences)
    with notes.status("starting") as status:
        report = measure_fairness(options, seconds, load, lambda text: status.update(escape(text)))
    print_report(report, notes if to_stdout else _console(stderr=False))
    _emit(report.to_json(), json_file)


@bench.command("route")
def route(
    modules: Annotated[int, typer.Option(min=1, help="Made-up modules.")] = 10_000,
    rules: Annotated[int, typer.Option(min=0, help="Of them with keywords and patterns.")] = 1000,
    questions: Annotated[int, typer.Option(min=1, help="Questions timed in each stage.")] = 2000,
    handbook: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Instead: pages of the handbook that tests/data/handbook/README.md names."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures there, one line; - for standard output.")
    ] = None,
) -> None:
    """Time the stages of routing with very many modules; or, with --handbook, count right answers about real text.

    Asks no model. A missed target is shown and does not fail the command. Time it on a machine that does nothing else.
    """
    from quire.bench.routing.report import print_accuracy, print_speed

    to_stdout = json_file == Path("-")
    if json_file is not None and not to_stdout:
        _check_writable(json_file)
    notes = _console(stderr=True)
    shown = notes if to_stdout else _console(stderr=False)
    if handbook is not None:
        from quire.bench.routing.accuracy import measure_accuracy
        from quire.bench.routing.handbook import read_handbook

        accuracy = measure_accuracy(read_handbook(handbook))
        print_accuracy(accuracy, shown)
        _emit(json.dumps(accuracy.to_json(), allow_nan=False), json_file)
        return
    from quire.bench.routing.speed import measure_speed

    with notes.status("starting") as status:
        speed = measure_speed(modules, rules, questions, lambda text: status.update(escape(text)))
    print_speed(speed, shown)
    _emit(json.dumps(speed.to_json(), allow_nan=False), json_file)


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
