"""OpenAI fields that this server does not carry out: ignored where that changes no answer, refused where it would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quire.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Container

IGNORED = {
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "prediction",
    "parallel_tool_calls",
}
# Field: values that ask for nothing, and what to do instead.
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "tools": (([],), "the model calls no tools; leave it out"),
    "tool_choice": (("none", "auto"), "the model calls no tools; leave it out"),
    "functions": (([],), "the model calls no functions; leave it out"),
    "function_call": (("none", "auto"), "the model calls no functions; leave it out"),
    "response_format": (({"type": "text"},), "answers are plain text; ask for JSON in words and check it"),
    "modalities": ((["text"],), "only text goes in and comes out"),
    "audio": ((), "only text goes in and comes out"),
    "moderation": ((), "nothing is moderated; leave it out"),
    "reasoning_effort": ((), "there is no separate reasoning; leave it out"),
    "verbosity": ((), "say in words how long the answer should be"),
    "web_search_options": ((), "answers come from the module alone; leave it out"),
    "best_of": ((1,), "ask for n answers and choose among them"),
    "echo": ((False,), "put the prompt before the text yourself"),
    "suffix": (("",), "text is only continued, not filled in"),
}


def without_ignored(document: dict[str, Any], *, known: Container[str]) -> dict[str, Any]:
    """`document` without the fields above that may be ignored, which any of them may where it is null.

    Those that are `known` stay: one way of asking may carry out what the other does not.

    Raises:
        InvalidRequest: a field that would change the answer if it were carried out.
    """
    kept: dict[str, Any] = {}
    for name, value in document.items():
        if name in known or (name not in REFUSED and name not in IGNORED):
            kept[name] = value
        elif name in REFUSED and value is not None and value not in REFUSED[name][0]:
            raise InvalidRequest(f"{name} is not supported by this server", hint=REFUSED[name][1], param=name)
    return kept
