"""The model and the layout of a project, as far as keys depend on them: found once, then remembered.

Identifying a model takes PyTorch and transformers, which take seconds to import. What was found is therefore kept in
the project's state directory with the stamps of all files it was found in; as long as these are as they were, so is it.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.artifact import digest_bytes
from quire.tokenizer import Encoder, TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quire.settings import Settings

IDENTITY_FILE = "identity.json"
TOKENIZER_FILE = "tokenizer.json"
ASKED = ("model.path", "model.home", "model.dtype", "model.weights", "layout.file")
Stamps = dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Identity:
    """`model`, `tokenizer`: fingerprints. `layout`: its definition. `max_positions`: tokens of a context."""

    model: str
    tokenizer: str
    dtype: str
    layout: dict[str, Any]
    bytes_per_token: int
    max_positions: int
    vocabulary: int


def places_of(settings: Settings) -> list[Path]:
    """Where the model and the layout were found last; empty where nothing is remembered."""
    places = _read(settings.state / IDENTITY_FILE).get("places")
    return [Path(place) for place in places if isinstance(place, str)] if isinstance(places, list) else []


def recall(settings: Settings) -> Identity | None:
    """What was remembered, if it still holds; None if it must be found again."""
    kept = _read(settings.state / IDENTITY_FILE)
    try:
        if kept["asked"] != _asked(settings) or kept["files"] != stamps_of(map(Path, kept["places"])):
            return None
        return Identity(**kept["identity"])
    except (KeyError, TypeError, OSError):
        return None  # of another version, or damaged: found again, and written anew


def recall_tokenizer(settings: Settings) -> TextTokenizer | None:
    """The tokenizer that was remembered with the identity; None if it has to be read with transformers."""
    kept = _read(settings.state / IDENTITY_FILE).get("encoder")
    try:
        definition = (settings.state / TOKENIZER_FILE).read_bytes()
        if kept is None or digest_bytes(definition) != kept:
            return None
        return TextTokenizer(Encoder(definition.decode("utf-8")), frozenset())
    except (OSError, ValueError):
        return None


def remember(settings: Settings, identity: Identity, directory: Path, tokenizer: TextTokenizer) -> None:
    """Keep `identity`, which was found in `directory`. Mutates the state directory, if it can.

    A model of the Hub is not remembered: whether there is a newer revision, only the Hub knows.
    """
    name = Path(settings.model_name).expanduser()
    if not (name.exists() or directory.is_relative_to(settings.model_home)):
        return
    places = [directory, *([name] if name.is_file() else [])]
    if layout := settings["layout.file"]:
        places.append(settings.root / layout)
    file = settings.state / IDENTITY_FILE
    fresh = file.with_suffix(".new")
    definition = (tokenizer.definition or "").encode("utf-8")
    try:
        kept = {
            "asked": _asked(settings),
            "places": [str(place) for place in places],
            "files": stamps_of(places),
            "identity": asdict(identity),
            "encoder": digest_bytes(definition) if definition else None,
        }
        if _read(file) != kept:
            file.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(definition)
            fresh.replace(settings.state / TOKENIZER_FILE)
            fresh.write_text(json.dumps(kept), encoding="utf-8")
            fresh.replace(file)
    except OSError:
        with suppress(OSError):  # only a shortcut: without it the model is identified again
            fresh.unlink(missing_ok=True)


def stamps_of(places: Iterable[Path]) -> Stamps:
    """Size, times and inode of files, and of all below directories but hidden ones, by path; -1 for what is not there.

    The time of the inode's last change is among them, which the system alone sets: a program that writes a file and
    puts its modification time back is noticed.
    """
    stamps: Stamps = {}
    entered: set[tuple[int, int]] = set()
    pending = [str(place) for place in places]
    while pending:
        place = pending.pop()
        try:
            info = os.stat(place)
            if not stat.S_ISDIR(info.st_mode):
                stamps[place] = [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]
            elif (info.st_dev, info.st_ino) not in entered:
                entered.add((info.st_dev, info.st_ino))
                pending += [f"{place}/{name}" for name in os.listdir(place) if not name.startswith(".")]
        except OSError:
            stamps[place] = [-1]
    return stamps


def _asked(settings: Settings) -> dict[str, Any]:
    return {"quire": version("quire"), "root": str(settings.root), **{name: settings[name] for name in ASKED}}


def _read(file: Path) -> dict[str, Any]:
    try:
        kept = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}
