"""`quire init`: a project to begin with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from quire.cli.options import JsonOption
from quire.cli.screen import Screen
from quire.errors import ProjectExists, StoreError
from quire.settings import NAME, PROJECT_FILE

EXAMPLE_FILE = Path("knowledge") / "example.md"
EXAMPLE_GOLDEN = Path("golden") / "example.yaml"

# The default model reads its answer off the page with every arithmetic, and ends by itself. That is not so of questions
# about opening hours: rounding decides there.
FIRST_QUESTION = "How much does a library card cost?"

PROJECT = """\
# A project of Quire. Every setting: docs/settings.md; every command: quire --help.

[project]
name = "{name}"

# [model]
# path = "smollm2-135m-instruct"   # the default; or a directory, a .gguf file, a Hub name

[modules.example]
title = "The library"
sources = ["knowledge/example.md"]   # files, directories or patterns
acl = "public"

[modules.example.route]
keywords = ["open", "hours", "library", "closed"]
"""

GOLDEN = """\
# What the module must answer before a version of it goes live. Keys: docs/lifecycle.md.
max_tokens: 32
questions:
- question: How much does a library card cost?
  contains: 12 pounds
- question: At what time does the library open?
  contains: "9:00"
  not_contains: "10:00"
"""

KNOWLEDGE = """\
# Opening hours

The library at Harbour Square is open from Tuesday to Saturday, 9:00 to 18:30.
It is closed on Sundays, on Mondays and on 24 and 31 December.

# Library card

A library card costs 12 pounds a year, and nothing for children.

# Front desk

The telephone number of the front desk is 555 0142.
"""


def init(
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where. Default: here.", show_default=False)
    ] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Begin a project: write quire.toml, an example of knowledge and its tests. Overwrites nothing."""
    name = re.sub(r"[^a-z0-9._-]+", "-", directory.resolve().name.lower()).strip("-._")[:64]
    contents = {
        Path(PROJECT_FILE): PROJECT.format(name=name if NAME.fullmatch(name) else "project"),
        EXAMPLE_FILE: KNOWLEDGE,
        EXAMPLE_GOLDEN: GOLDEN,
    }
    for file in contents:
        if (directory / file).exists():
            raise ProjectExists(
                f"{directory / file} is there already", hint="choose another directory, or move the file away"
            )
    for file, text in contents.items():
        try:
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            with (directory / file).open("x", encoding="utf-8") as opened:
                opened.write(text)
        except OSError as error:
            raise StoreError.from_os(error, directory / file) from error
    written = [str(directory / file) for file in contents]
    there = "" if directory == Path() else f"cd {directory} && "
    Screen(as_json=as_json).show(
        {"written": written},
        *(f"wrote {file}" for file in written),
        f'next: {there}quire build && quire ask "{FIRST_QUESTION}"',
    )
