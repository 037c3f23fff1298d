"""Loaded by Schemathesis: bodies that get as far as possible, and answers of a few tokens."""

from __future__ import annotations

from typing import Any

import schemathesis

LIMITS = ("max_tokens", "max_completion_tokens")
LONGEST = 4  # tokens of an answer
MODULES = ("company", "prices", "plans", "nowhere")
MODELS = ("quire", *(f"quire/{name}" for name in MODULES))


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Mostly names that there are: whatever else a body says is not looked at with a model that is not served."""
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        body["model"] = MODELS[len(body["model"]) % len(MODELS)]
    return body


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    """The same for the modules in paths."""
    name = (path_parameters or {}).get("name")
    if isinstance(name, str):
        path_parameters["name"] = [*MODULES, name][len(name) % (len(MODULES) + 1)]
    return path_parameters


@schemathesis.hook
def before_call(context: Any, case: Any, **_: Any) -> None:
    """Long answers take time and show nothing more."""
    body = case.body
    if isinstance(body, dict) and ("messages" in body or "prompt" in body):
        for name in LIMITS:
            if isinstance(body.get(name), int) and body[name] > LONGEST:
                body[name] = LONGEST
        if all(body.get(name) is None for name in LIMITS):
            body["max_tokens"] = LONGEST
