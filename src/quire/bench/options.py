"""What the user of the benchmark may choose. Light to import: the console reads it before any model code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

from quire.errors import InvalidSetting

Section = Literal["compile", "open", "fetch", "first-token", "decode", "memory", "agreement"]
SECTIONS: tuple[Section, ...] = get_args(Section)
Name = TypeVar("Name", bound=str)


@dataclass(frozen=True, slots=True)
class Options:
    """`model`, `document`, `article`, `work`: None for the defaults. `repeat`: rounds. `threads`: 0 for all cores."""

    model: str | None = None
    document: Path | None = None
    article: str | None = None
    repeat: int = 5
    questions: int = 20
    threads: int = 0
    work: Path | None = None
    sequences: int = 64  # requests computed together


def parse_sections(text: str) -> list[Section]:
    """Sections from a list with commas, in their own order; "" means all.

    Raises:
        InvalidSetting: a name that is no section.
    """
    return chosen_names(text, SECTIONS, "sections of the benchmark")


def chosen_names(text: str, names: Sequence[Name], what: str) -> list[Name]:
    """Those of `names` that a list with commas names, in their own order; "" means all.

    Raises:
        InvalidSetting: one that is none of `what`.
    """
    named = [name.strip() for name in text.split(",") if name.strip()]
    for name in named:
        if name not in names:
            raise InvalidSetting(f"expected {what}, found {name!r}", hint=", ".join(names))
    return [name for name in names if not named or name in named]
