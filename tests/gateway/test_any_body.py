"""No request body makes the server fail."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quire.errors import InvalidRequest
from quire.gateway.body import parse_fields
from quire.gateway.endpoints import ENDPOINTS
from quire.gateway.schemas import (
    AnswerFields,
    CanaryFields,
    ChangeFields,
    ChatFields,
    CompletionFields,
    ExplainFields,
    Fields,
    KeyFields,
    ReasonFields,
)

from .process import Server

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted({*ChatFields.model_fields, *CompletionFields.model_fields})
VALUES = (
    JSON
    | st.integers(-2, 70)
    | st.floats(0, 2)
    | st.dictionaries(st.integers(-1, 700).map(str), st.floats(-100, 100), max_size=3)
    | st.lists(st.text(max_size=3), max_size=4)
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": st.text(max_size=30)}
    ),
    max_size=4,
)
QUESTION = [{"role": "user", "content": "What does a bolt cost?"}]
# Each body starts as a good one, so that what is changed about it gets as far as possible.
BODIES = st.builds(
    lambda changes, messages: {
        "model": "quire/company",
        "max_tokens": 2,
        "messages": QUESTION if messages is None else messages,
        "prompt": "A bolt",
        **changes,
    },
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3),
    st.none() | MESSAGES,
)


UNUSED = {"/v1/chat/completions": "prompt", "/v1/completions": "messages"}


@pytest.mark.parametrize("path", [*UNUSED, "/v1/routes/explain"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=JSON | BODIES)
def test_no_body_is_answered_with_a_failure(server: Server, path: str, body: Any) -> None:
    if isinstance(body, dict) and path in UNUSED:
        body.pop(UNUSED[path], None)
        limit = body.get("max_tokens")
        body["max_tokens"] = min(limit, 8) if isinstance(limit, int) else 2  # answers take time
    response = server.post(path, json=body)
    assert response.status_code < 500
    if response.status_code != 200:
        assert {"message", "type", "param", "code"} == set(response.json()["error"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_no_bytes_are_answered_with_a_failure(server: Server, content: bytes) -> None:
    response: httpx.Response = server.post(
        "/v1/completions", content=content, headers={"content-type": "application/json"}
    )
    assert response.status_code == 400


GOOD: dict[type[Fields], dict[str, Any]] = {
    ChatFields: {"model": "quire", "messages": QUESTION},
    CompletionFields: {"model": "quire", "prompt": "A bolt"},
    ExplainFields: {"question": "What does a bolt cost?"},
    KeyFields: {"title": "kiosk"},
    ReasonFields: {"reason": "lost"},
    ChangeFields: {"reason": "lost", "version": "0123"},
    CanaryFields: {"reason": "new prices", "version": "0123", "percent": 5},
}


def test_every_body_has_an_example() -> None:
    assert set(GOOD) == {endpoint.takes for endpoint in ENDPOINTS if endpoint.takes is not None}


@pytest.mark.parametrize("schema", GOOD)
@pytest.mark.parametrize("name", ["", "reasn", "tools", "refusal"])
def test_an_unknown_field_is_refused_even_if_it_is_null(schema: type[Fields], name: str) -> None:
    """OpenAI's protocol has fields that may be empty, where that protocol is spoken."""
    body = json.dumps({**GOOD[schema], name: None}).encode()
    if issubclass(schema, AnswerFields) and name == "tools":
        parse_fields(body, schema)
    else:
        with pytest.raises(InvalidRequest, match="is not a field of this request"):
            parse_fields(body, schema)
