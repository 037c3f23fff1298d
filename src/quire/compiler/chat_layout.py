"""A layout made from the model's own chat template, so that a new model needs no layout file.

The template is rendered once with marks in the places of the messages and cut at the marks: the text between two
marks is what the model was trained to see between two turns.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from quire.compiler.layout import Layout
from quire.errors import LayoutMalformed

if TYPE_CHECKING:
    from quire.model import TextTokenizer

CHILD = "\n\n# {title}\n\n{content}"
INSTRUCTION = "\n\n{content}"
MARKS = ("QUIRE0SYSTEM", "QUIRE1USER", "QUIRE2ASSISTANT", "QUIRE3USER")


def chat_layout(tokenizer: TextTokenizer) -> Layout:
    """The layout `chat` of a model with a chat template, `plain` of one without.

    Raises:
        LayoutMalformed: the template drops or reorders messages; the user must write a layout file.
    """
    if not tokenizer.chat_template:
        return plain_layout(tokenizer)
    before, first_user, assistant, user, answer = _cut(tokenizer)
    return Layout(
        id="chat",
        version="1",
        root=_literal(before) + "{content}",
        child=CHILD,
        instruction=INSTRUCTION,
        first_user=_literal(first_user),
        assistant=_literal(assistant),
        user=_literal(user),
        answer=_literal(answer),
    )


def plain_layout(tokenizer: TextTokenizer) -> Layout:
    """Question and answer in plain text, for base models."""
    return Layout(
        id="plain",
        version="1",
        root=_literal(tokenizer.start_marker) + "{content}",
        child=CHILD,
        instruction=INSTRUCTION,
        first_user="\n\nQuestion: ",
        assistant="\nAnswer: ",
        user="\n\nQuestion: ",
        answer="\nAnswer:",
        stop=("\nQuestion:",),
    )


def _cut(tokenizer: TextTokenizer) -> list[str]:
    system, first, reply, second = MARKS
    turns = [
        {"role": "user", "content": first},
        {"role": "assistant", "content": reply},
        {"role": "user", "content": second},
    ]
    with_system = [{"role": "system", "content": system}, *turns]
    # Where a template knows no system role, or moves its text behind the first question, the knowledge opens that.
    without = [{"role": "user", "content": f"{system}\n\n{first}"}, *turns[1:]]
    for messages in (with_system, without):
        pieces = re.split("|".join(MARKS), text := tokenizer.render_chat(messages) or "")
        if tuple(re.findall("|".join(MARKS), text)) == MARKS:
            return pieces
    raise LayoutMalformed(
        "the model's chat template does not keep its messages in order, each of them once",
        hint="write a layout file and name it in quire.toml as layout.file",
    )


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
