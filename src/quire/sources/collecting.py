"""From the patterns of a module to its documents, in an order that does not depend on the file system."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from quire.errors import SourceEmpty, SourceNotFound, SourceUnreadable, lack_of
from quire.sources.document import Document
from quire.sources.globbing import fixed_prefix, glob_pattern, has_magic
from quire.sources.media import kind_of
from quire.sources.opening import MAX_BYTES, looks_binary
from quire.sources.reading import read_source
from quire.sources.suggestion import did_you_mean


@dataclass(frozen=True, slots=True)
class _Found:
    path: Path
    name: str
    explicit: bool


def collect(root: Path, patterns: Sequence[str], *, max_bytes: int = MAX_BYTES) -> list[Document]:
    """Every source that `patterns` name, each file once, in pattern order, then by posix path (code points).

    A pattern is a file, a directory (taken with everything below it) or a glob. Below a directory or glob,
    hidden files, binary files of unknown extension and empty code files are passed over; a file named itself
    is read or refused. Paths are relative to `root` and stay under it, links included; an absolute pattern may
    lie elsewhere, and then links stay under the directory it names. Names are relative to `root` where they can.

    Raises SourceNotFound for a pattern that matches nothing, SourceUnreadable for a path or link that leads
    out, and what `read_source` raises.
    """
    documents: list[Document] = []
    for found in _each(root, patterns):
        try:
            documents.append(read_source(found.path, max_bytes=max_bytes, name=found.name))
        except SourceEmpty:
            # Code has empty files on purpose (__init__.py); an empty page of prose is a mistake.
            if found.explicit or kind_of(found.name) != "code":
                raise
    return documents


def places(root: Path, patterns: Sequence[str]) -> list[Path]:
    """The files and directories at or below which everything lies that `patterns` name, whether or not it is there.

    Raises SourceNotFound, SourceUnreadable for a pattern that is none.
    """
    found: list[Path] = []
    for pattern in patterns:
        path = _located(root, pattern)
        globbed = has_magic(pattern) and not os.path.lexists(path)
        found.append(Path(fixed_prefix(path.as_posix())[0]) if globbed else path)
    return found


def _each(root: Path, patterns: Sequence[str]) -> Iterator[_Found]:
    if not root.is_dir():
        raise SourceNotFound(
            f"{root}: expected a directory of sources, found none", hint=did_you_mean(root) or "check the path"
        )
    seen: set[str] = set()
    for pattern in patterns:
        for found in _matches(root, pattern):
            real = os.path.realpath(found.path)
            if real not in seen:
                seen.add(real)
                yield found


def _matches(root: Path, pattern: str) -> list[_Found]:
    path = _located(root, pattern)
    if os.path.isdir(path):
        _require_inside(path, _boundary(root, pattern, path), pattern)
        found = list(_walk(root, path, _boundary(root, pattern, path)))
    elif has_magic(pattern) and not os.path.lexists(path):
        found = _glob(root, pattern, path)
    else:
        if os.path.lexists(path) and not os.path.isabs(pattern):
            _require_inside(path, os.path.realpath(root), pattern)
        return [_Found(path, _name(root, path), explicit=True)]
    if not found:
        raise SourceNotFound(
            f"{pattern}: expected at least one source, found none that matches",
            hint=_closest_match(path, pattern) or "check the pattern, and that the files are not hidden",
        )
    return sorted(found, key=lambda match: match.name)


def _located(root: Path, pattern: str) -> Path:
    normal = os.path.normpath(pattern) if pattern.strip() else ""
    if not normal or "\0" in pattern:
        raise SourceNotFound(f"expected a file, directory or pattern, found {pattern!r}", hint='"." names all of it')
    if normal == ".." or normal.startswith(f"..{os.sep}"):
        raise SourceUnreadable(
            f"{pattern}: expected a path under {root}, found one above it",
            hint="name it by its absolute path",
        )
    return root / normal


def _boundary(root: Path, pattern: str, directory: Path) -> str:
    """The real directory that links found below `directory` may not leave."""
    return os.path.realpath(directory if os.path.isabs(pattern) else root)


def _require_inside(path: Path, boundary: str, name: str) -> None:
    real = os.path.realpath(path)
    if os.path.commonpath([real, boundary]) != boundary:
        raise SourceUnreadable(
            f"{name}: expected a file under {boundary}, found a link to {real}",
            hint="copy the file there, or name it by its absolute path",
        )


def _name(root: Path, path: Path) -> str:
    absolute_root, absolute = os.path.abspath(root), os.path.abspath(path)
    if os.path.commonpath([absolute_root, absolute]) != absolute_root:
        return Path(absolute).as_posix()
    return Path(os.path.relpath(absolute, absolute_root)).as_posix()


def _glob(root: Path, pattern: str, path: Path) -> list[_Found]:
    prefix, rest = fixed_prefix(path.as_posix())
    base = Path(prefix)
    if not base.is_dir():
        raise SourceNotFound(
            f"{pattern}: expected a directory {_name(root, base)}, found none",
            hint=did_you_mean(base) or "check the path",
        )
    _require_inside(base, _boundary(root, pattern, base), pattern)
    wanted = glob_pattern(rest)
    return [
        found
        for found in _walk(root, base, _boundary(root, pattern, base))
        if wanted.fullmatch(found.path.relative_to(base).as_posix())
    ]


def _walk(root: Path, top: Path, boundary: str) -> Iterator[_Found]:
    """Every file below `top` that is to be read. Linked directories are entered, each real one once."""
    pending, visited = [top], {os.path.realpath(top)}
    while pending:
        directory = pending.pop()
        try:
            entries = sorted(os.listdir(directory))
        except OSError as error:
            raise lack_of(error, _name(root, directory)) or SourceUnreadable(
                f"{_name(root, directory)}: expected a readable directory: {error.strerror}",
                hint="chmod +rx it",
            ) from error
        for entry in entries:
            path = directory / entry
            if entry.startswith("."):
                continue
            if path.is_symlink():
                _require_inside(path, boundary, _name(root, path))
            if os.path.isdir(path):
                if (real := os.path.realpath(path)) not in visited:
                    visited.add(real)
                    pending.append(path)
            elif kind_of(entry) is not None or not looks_binary(path):
                yield _Found(path, _name(root, path), explicit=False)


def _closest_match(path: Path, pattern: str) -> str:
    if not has_magic(pattern):
        return ""
    base, rest = fixed_prefix(path.as_posix())
    return did_you_mean(Path(base) / rest.replace("**/", "").replace("/", "-"))
