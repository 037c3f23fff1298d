"""Options and arguments that several commands share, and completion of module names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quire.errors import QuireError


def complete_module(incomplete: str) -> list[str]:
    """Names of registered modules that begin with `incomplete`; for the project in the working directory."""
    from quire.cli.opening import open_catalogue

    try:
        with open_catalogue(None) as catalogue:
            return [m.module_id for m in catalogue.registry.modules() if m.module_id.startswith(incomplete)]
    except QuireError:
        return []  # no project here: nothing to offer, and no place to say so


ProjectOption = Annotated[
    Path | None,
    typer.Option(
        "--project",
        metavar="DIR",
        help="The project, or the store that `quire compile` wrote to. Default: the one here or above.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of tables.")]
Modules = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODULE]...", help="Modules; all where none is named.", autocompletion=complete_module),
]
Module = Annotated[
    str, typer.Argument(metavar="MODULE", help="A module, or MODULE@VERSION.", autocompletion=complete_module)
]
ModuleOption = Annotated[
    str | None,
    typer.Option(
        "--module",
        "-m",
        metavar="MODULE",
        help="Who answers: MODULE or MODULE@VERSION. Default: the router decides.",
        autocompletion=complete_module,
        show_default=False,
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the history.")]
MaxTokens = Annotated[int, typer.Option("--max-tokens", min=1, help="Longest answer, in tokens.")]
Temperature = Annotated[float, typer.Option("--temperature", min=0.0, help="0: always the likeliest token.")]
TopK = Annotated[int, typer.Option("--top-k", min=0, help="Choose among this many tokens; 0: off.")]
TopP = Annotated[float, typer.Option("--top-p", min=0.0, max=1.0, help="Choose within this much probability.")]
MinP = Annotated[float, typer.Option("--min-p", min=0.0, max=1.0, help="Least probability, as a share of the best's.")]
Repetition = Annotated[float, typer.Option("--repetition-penalty", help="Above 1: repeat less.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Makes sampling repeatable.", show_default=False)]
Stop = Annotated[list[str] | None, typer.Option("--stop", help="End the answer before this text. Repeatable.")]
