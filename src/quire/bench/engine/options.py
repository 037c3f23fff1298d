"""What the user of `quire bench engine` may choose. Light to import: the console reads it before any model code."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from quire.bench.options import chosen_names
from quire.errors import InvalidSetting

ArmName = Literal["quire", "transformers", "vllm"]
EngineSection = Literal["load", "restart", "memory"]
ARMS: tuple[ArmName, ...] = get_args(ArmName)
ENGINE_SECTIONS: tuple[EngineSection, ...] = get_args(EngineSection)
LEVELS = (1, 4, 16, 32, 64)
MOST = 256  # requests at once: what the queue holds, since all of them are submitted before any is begun
PLOTS = (".png", ".svg")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """`model`, `document`, `article`, `work`: None for the defaults. `threads`: 0 for all cores.

    `full`: let transformers answer every request of a level, not a few of them. `vllm`: "auto" for an environment that
    the benchmark makes, "skip", or the path of an interpreter that has vLLM. `pip_flags`: for making the environment.
    """

    model: str | None = None
    document: Path | None = None
    article: str | None = None
    arms: tuple[ArmName, ...] = ARMS
    levels: tuple[int, ...] = LEVELS
    sections: tuple[EngineSection, ...] = ENGINE_SECTIONS
    repeat: int = 3
    threads: int = 0
    full: bool = False
    vllm: str = "auto"
    pip_flags: str = ""
    work: Path | None = None


def parse_arms(text: str, vllm: str) -> tuple[ArmName, ...]:
    """Arms from a list with commas, "" for all; without vLLM if `vllm` is "skip".

    Raises:
        InvalidSetting: a name that is no arm, or nothing left to run.
    """
    arms = tuple(a for a in chosen_names(text, ARMS, "arms of the benchmark") if (a, vllm) != ("vllm", "skip"))
    if not arms:
        raise InvalidSetting("expected an arm to run, found none: --vllm skip leaves it out", hint=", ".join(ARMS))
    return arms


def parse_engine_sections(text: str) -> tuple[EngineSection, ...]:
    """Sections from a list with commas, in their own order; "" means all.

    Raises:
        InvalidSetting: a name that is no section.
    """
    return tuple(chosen_names(text, ENGINE_SECTIONS, "sections of the benchmark"))


def parse_levels(text: str) -> tuple[int, ...]:
    """Numbers of requests at once from a list with commas, sorted, each once; "" means `LEVELS`.

    Raises:
        InvalidSetting: not a whole number from 1 to `MOST`.
    """
    levels: set[int] = set()
    for word in (w.strip() for w in text.split(",")):
        if word and not (word.isascii() and word.isdigit() and 1 <= int(word) <= MOST):
            raise InvalidSetting(
                f"expected numbers of requests at once, found {word!r}", hint=f"whole numbers from 1 to {MOST}"
            )
        levels |= {int(word)} if word else set()
    return tuple(sorted(levels)) or LEVELS


def check_plot(path: Path, sections: tuple[EngineSection, ...]) -> None:
    """Refuse now what would fail after many minutes.

    Raises:
        InvalidSetting: another kind of file, nothing to draw, or no matplotlib to draw it with.
    """
    if "load" not in sections:
        raise InvalidSetting("--plot draws the section load, which --only leaves out", hint="--only load")
    if path.suffix.lower() not in PLOTS:
        raise InvalidSetting(f"expected a plot ending in {' or '.join(PLOTS)}, found {path}", hint="rename it")
    if find_spec("matplotlib") is None:
        raise InvalidSetting("--plot needs matplotlib, which is not installed", hint="pip install 'quire[bench]'")
