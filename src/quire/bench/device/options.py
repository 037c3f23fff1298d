"""What the user of `quire bench device` may choose. Light to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from quire.errors import InvalidSetting

Shape = Literal["qwen3-4b", "tiny"]
SHAPE_NAMES: tuple[Shape, ...] = get_args(Shape)
LENGTHS = (8192, 32768, 122880)  # tokens


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """`lengths`: tokens of each document. `requests`: decoded together. `work`: None for the temporary directory."""

    device: str = "cuda"
    shape: Shape = "qwen3-4b"
    lengths: tuple[int, ...] = LENGTHS
    requests: int = 64
    repeat: int = 5
    work: Path | None = None


def parse_shape(text: str) -> Shape:
    """Raises: InvalidSetting for a shape that is not known."""
    for name in SHAPE_NAMES:
        if text == name:
            return name
    raise InvalidSetting(f"expected a shape, found {text!r}", hint=", ".join(SHAPE_NAMES))


def parse_lengths(text: str) -> tuple[int, ...]:
    """Numbers of tokens from a list with commas, in increasing order.

    Raises:
        InvalidSetting: one that is no number above 63.
    """
    parts = [part.strip().replace("_", "") for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() and int(part) >= 64 for part in parts):
        raise InvalidSetting(f"expected numbers of tokens of at least 64, found {text!r}", hint="e.g. 8192,32768")
    return tuple(sorted({int(part) for part in parts}))
