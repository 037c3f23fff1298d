"""The files that a model was read from, while it is in use.

Weights are mapped: a pass reads what the files hold now. What is written there under a running model mixes two models,
and nothing but a restart mends that. Files that are replaced, as by a rename, leave the mapped ones as they are.
"""

from __future__ import annotations

import errno
import logging
from pathlib import Path

from quire.errors import ModelChanged
from quire.file_identity import FileIdentity
from quire.model.fingerprint import TOKENIZER_FILES, file_digest

log = logging.getLogger(__name__)


class ModelFiles:
    """Configuration, weights and tokenizer, each with its identity and digest when it was first seen. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError."""
        self.directory = directory
        paths = [directory / "config.json", *sorted(directory.glob("*.safetensors"))]
        paths += [directory / name for name in TOKENIZER_FILES]
        self._known: dict[Path, tuple[FileIdentity, str]] = {}
        for path in paths:
            if path.is_file():
                identity = FileIdentity.of(path.stat())  # before it is read
                self._known[path] = (identity, file_digest(path))
        self._replaced: set[Path] = set()
        self.damage = ""

    @property
    def weights(self) -> list[Path]:
        """The files that are mapped, as the system names them."""
        return [path.resolve() for path in self._known if path.suffix == ".safetensors"]

    @property
    def untouched(self) -> bool:
        """Whether no file was changed since it was last read. It costs one `stat` a file."""
        return not self.damage and not any(self._touched())

    def check(self) -> None:
        """Raises ModelChanged once a change has been found. Cheap: nothing is looked at."""
        if self.damage:
            raise ModelChanged(
                f"files of the model changed under the server: {self.damage}",
                hint="restart the server: what it computes may mix two models",
            )

    def verify(self) -> None:
        """Read files that were touched and compare them with their digests; those that hold are known as they are now.

        Raises:
            ModelChanged: a file was written, and has other bytes.
        """
        for path, identity, difference in list(self._touched()):
            try:
                found = FileIdentity.of(path.stat())
                digest = file_digest(path) if found.same_file(identity) else ""
            except FileNotFoundError:
                found, digest = None, ""
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                    continue  # nothing is wrong with the file: the next look reads it
                found, digest, difference = None, "unreadable", f"it cannot be read ({error.strerror})"
            if not digest:
                log.warning(
                    "%s of the model: %s. This server answers with what it has loaded, until it is restarted",
                    path.name,
                    difference,
                )
                self._replaced.add(path)
            elif digest == self._known[path][1] and found is not None:
                self._known[path] = (found, digest)
            else:
                self.damage = self.damage or f"{path.name}: {difference}"
        self.check()

    def _touched(self) -> list[tuple[Path, FileIdentity, str]]:
        return [
            (path, identity, difference)
            for path, (identity, _) in list(self._known.items())
            if path not in self._replaced and (difference := identity.difference(path))
        ]
