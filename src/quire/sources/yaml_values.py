"""YAML as JSON values, built from parser events.

Events need no recursion: libyaml's composer overflows the C stack on a file of opening brackets. Plain
scalars are read by YAML 1.2's core schema (so `no` is a word and 1.10 keeps its zero); tags construct nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import yaml

from quire.errors import SourceMalformed
from quire.sources.values import MAX_DEPTH, MAX_VALUES, Number, Value, too_deep

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?", re.ASCII)
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "true": True, "false": False}
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def parse_yaml(text: str, name: str, first_line: int = 1) -> Value:
    """One YAML document as a value; `first_line` is the line of the file that `text` begins on.

    Raises SourceMalformed for a syntax error with its line, a key given twice or not a word, a merge key,
    a second document, aliases that refer to themselves, nesting beyond MAX_DEPTH, or more than MAX_VALUES
    values once aliases are expanded.
    """
    builder = _Builder(name, first_line)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + first_line}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise SourceMalformed(
            f"{name}: expected YAML, found a syntax error{place}: {problem}",
            hint="quote values that hold a colon, and indent with spaces",
        ) from error
    except ValueError as error:
        raise SourceMalformed(f"{name}: expected YAML, found an escape of no character: {error}") from error
    return builder.root


@dataclass(slots=True)
class _Open:
    """A container whose end has not been seen. `height`: levels below it; `size`: values in it."""

    value: list[Value] | dict[str, Value]
    anchor: str | None
    key: str | None = None
    height: int = 0
    size: int = 1


@dataclass(slots=True)
class _Builder:
    name: str
    first_line: int
    root: Value = None
    documents: int = 0
    stack: list[_Open] = field(default_factory=list)
    anchors: dict[str, tuple[Value, int, int]] = field(default_factory=dict)

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise self._error(event, "one document", "a second one")
        elif isinstance(event, yaml.MappingStartEvent):
            self._open(event, {})
        elif isinstance(event, yaml.SequenceStartEvent):
            self._open(event, [])
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = self.stack.pop()
            self._place(event, closed.value, closed.anchor, closed.height, closed.size)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self._error(event, "an anchor defined before", f"the alias *{event.anchor}")
            value, height, size = self.anchors[event.anchor]
            self._place(event, value, None, height, size)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event)

    def _open(self, event: yaml.NodeEvent, value: list[Value] | dict[str, Value]) -> None:
        parent = self.stack[-1] if self.stack else None
        if parent and isinstance(parent.value, dict) and parent.key is None:
            raise self._error(event, "a word as key", "a list or mapping")
        if len(self.stack) >= MAX_DEPTH:
            raise too_deep(self.name)
        self.stack.append(_Open(value, event.anchor))

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        if _UNPRINTABLE.search(event.value):
            raise self._error(event, "printable characters", repr(event.value[:60]))
        parent = self.stack[-1] if self.stack else None
        if parent and isinstance(parent.value, dict) and parent.key is None:
            self._key(event, parent, parent.value)
        else:
            plain = event.style in (None, "") and event.tag is None
            self._place(event, _resolved(event.value) if plain else event.value, event.anchor, 0, _size(event.value))

    def _key(self, event: yaml.ScalarEvent, parent: _Open, members: dict[str, Value]) -> None:
        if event.value == "<<":
            raise self._error(event, "YAML 1.2", "a merge key (<<), which it does not have")
        if event.value in members:
            raise self._error(event, "each key once", f"{event.value!r} twice")
        if event.anchor:
            self.anchors[event.anchor] = (event.value, 0, _size(event.value))
        parent.key = event.value

    def _place(self, event: yaml.Event, value: Value, anchor: str | None, height: int, size: int) -> None:
        if anchor:
            self.anchors[anchor] = (value, height, size)
        if not self.stack:
            self.root = value
            return
        parent = self.stack[-1]
        parent.height = max(parent.height, height + 1)
        parent.size += size
        if len(self.stack) + height > MAX_DEPTH:
            raise too_deep(self.name)
        if parent.size > MAX_VALUES:
            raise self._error(event, f"at most {MAX_VALUES} values with aliases expanded", "more")
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif parent.key is None:
            raise self._error(event, "a word as key", "an alias")
        else:
            parent.value[parent.key] = value
            parent.key = None

    def _error(self, event: yaml.Event, expected: str, found: str) -> SourceMalformed:
        place = f" at line {event.start_mark.line + self.first_line}" if event.start_mark else ""
        return SourceMalformed(f"{self.name}: expected {expected}, found {found}{place}")


def _size(scalar: str) -> int:
    """A scalar counts once for every 64 characters, so that aliases of a long one are bounded too."""
    return 1 + len(scalar) // 64


def _resolved(text: str) -> Value:
    if text in _WORDS:
        return _WORDS[text]
    return Number(text) if _NUMBER.fullmatch(text) else text
