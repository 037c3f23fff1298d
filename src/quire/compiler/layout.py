"""Layouts: in which order the segments of a prompt stand, and what separates them.

A layout has a static part, compiled into modules, and a dynamic part, tokenized per request:

    root(content) child(content) ... | instruction(content)* first_user QUESTION
        [assistant ANSWER user QUESTION]* answer

Each template's own text may hold control tokens; what fills its variables is always plain words.
"""

from __future__ import annotations

import re
import string
import tomllib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from quire.artifact import canonical, digest_bytes
from quire.errors import InvalidRequest, LayoutMalformed, UnknownVariable, lack_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from quire.core import Turn

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
STATIC_VARIABLES = {"content", "title", "module"}
VARIABLES = {
    "root": STATIC_VARIABLES,
    "child": STATIC_VARIABLES,
    "instruction": {"content"},
    "first_user": set[str](),
    "assistant": set[str](),
    "user": set[str](),
    "answer": set[str](),
}


class Tokenizes(Protocol):
    """What a layout needs of a tokenizer, see `TextTokenizer`."""

    def markers(self, text: str) -> list[int]: ...

    def words(self, text: str) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Layout:
    """A versioned prompt template: an interface between modules and requests, identified by its checksum.

    `root`, `child`: templates of a module without and with a parent. `instruction`: of a system message that comes with
    a request. The rest is literal text between turns: `first_user` before the first question, `assistant` before an
    earlier answer, `user` before a later question, `answer` before the answer to generate. `stop`: strings ending it.
    """

    id: str
    version: str
    root: str
    child: str
    instruction: str
    first_user: str
    assistant: str
    user: str
    answer: str
    stop: tuple[str, ...] = ()

    @property
    def checksum(self) -> str:
        """Digest of the whole definition, ``b3:<64 hex>``."""
        return digest_bytes(canonical(self.definition()))

    def definition(self) -> dict[str, Any]:
        """The layout as JSON values; `Layout.parse` reads it back."""
        return {**asdict(self), "stop": list(self.stop)}

    @classmethod
    def parse(cls, definition: Mapping[str, Any], where: str) -> Layout:
        """A layout from its definition, every key required but `stop`.

        Raises:
            LayoutMalformed: a key is missing, unknown or of the wrong type.
            UnknownVariable: a template names a variable that its place does not have.
        """
        texts = {"id", "version", *VARIABLES}
        unknown, missing = sorted(set(definition) - texts - {"stop"}), sorted(texts - set(definition))
        if unknown or missing:
            raise LayoutMalformed(
                f"layout {where}: unknown keys {unknown}, missing keys {missing}",
                hint=f"a layout has the keys {', '.join(sorted(texts))} and optionally stop",
            )
        stop = definition.get("stop", [])
        wrong = [k for k in sorted(texts) if not isinstance(definition[k], str)]
        if wrong or not isinstance(stop, (list, tuple)) or not all(isinstance(s, str) and s for s in stop):
            raise LayoutMalformed(f"layout {where}: {wrong or ['stop']} must be text", hint="put the values in quotes")
        for name in ("id", "version"):
            if not NAME.fullmatch(definition[name]):
                raise LayoutMalformed(
                    f"layout {where}: {name} must be 1 to 64 letters, digits, dots, dashes or underscores, "
                    f"found {definition[name]!r:.90}",
                    hint='e.g. id = "support", version = "2"',
                )
        for name, allowed in VARIABLES.items():
            _check_template(definition[name], name, allowed, where)
        return cls(**{k: definition[k] for k in texts}, stop=tuple(stop))

    def static_ids(self, tokenizer: Tokenizes, *, is_root: bool, content: str, title: str, module: str) -> list[int]:
        """Token ids of one module's segment."""
        template = self.root if is_root else self.child
        return _fill(tokenizer, template, {"content": content, "title": title, "module": module})

    def suffix_segments(
        self, tokenizer: Tokenizes, turns: Sequence[Turn], replies: Mapping[str, list[int]]
    ) -> list[list[int]]:
        """Token ids of the dynamic part, one list per segment, for `turns` that end with a user's.

        `replies`: token ids of earlier answers by their text, as they were generated; others are tokenized.

        Raises:
            InvalidRequest: the turns are not [system ...] user [assistant user ...].
        """
        segments: list[list[int]] = []
        before = "start"
        for turn in turns:
            if (before, turn.role) not in ORDER:
                raise InvalidRequest(
                    f"a {turn.role} message cannot follow {before.replace('start', 'the start')}",
                    hint="send system messages first, then user and assistant in turn, a user message last",
                )
            if turn.role == "system":
                segments.append(_fill(tokenizer, self.instruction, {"content": turn.content}))
            else:
                marker = self.assistant if turn.role == "assistant" else self.user
                marker = self.first_user if before in {"start", "system"} else marker
                known = replies.get(turn.content) if turn.role == "assistant" else None
                segments += [tokenizer.markers(marker), known or tokenizer.words(turn.content)]
            before = turn.role
        if before != "user":
            raise InvalidRequest("the last message must be the user's", hint="put the question last")
        segments.append(tokenizer.markers(self.answer))
        return [s for s in segments if s]


ORDER = {
    ("start", "system"),
    ("system", "system"),
    ("start", "user"),
    ("system", "user"),
    ("user", "assistant"),
    ("assistant", "user"),
}


def read_layout(path: Path) -> Layout:
    """A layout from a TOML file.

    Raises:
        LayoutMalformed, UnknownVariable.
    """
    try:
        definition = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise lack_of(error, str(path)) or LayoutMalformed(
            f"cannot read the layout {path}: {error.strerror}", hint="check the path"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LayoutMalformed(f"{path} is not valid TOML: {error}", hint="correct the line named") from error
    return Layout.parse(definition, str(path))


def _check_template(text: str, name: str, allowed: set[str], where: str) -> None:
    try:
        fields = [(f, spec, conv) for _, f, spec, conv in string.Formatter().parse(text) if f is not None]
    except ValueError as error:
        raise LayoutMalformed(
            f"layout {where}: {name} has an unbalanced brace: {error}", hint="write {{ and }} for braces"
        ) from error
    for variable, spec, conversion in fields:
        if variable not in allowed or spec or conversion:
            known = ", ".join(sorted(allowed)) or "none"
            raise UnknownVariable(
                f"layout {where}: {name} uses the variable {{{variable}}}; it knows {known}",
                hint="write {{ and }} for literal braces",
            )
    if allowed and "content" not in {f for f, _, _ in fields}:
        raise LayoutMalformed(
            f"layout {where}: {name} never uses {{content}}", hint="add {content} where the text goes"
        )


def _fill(tokenizer: Tokenizes, template: str, variables: Mapping[str, str]) -> list[int]:
    ids: list[int] = []
    for literal, variable, _, _ in string.Formatter().parse(template):
        ids += tokenizer.markers(literal)
        if variable is not None:
            ids += tokenizer.words(variables[variable])
    return ids
