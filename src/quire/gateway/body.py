"""From the bytes of a request to checked fields. What is wrong with them is an InvalidRequest that names the field."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect

from quire.errors import InvalidRequest, RequestCancelled, RequestTooLarge
from quire.gateway.schemas import AnswerFields
from quire.gateway.unsupported import without_ignored

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails
    from starlette.requests import Request

Fields = TypeVar("Fields", bound=BaseModel)
SHOWN = 60  # characters of a wrong value in a message
MOST_VALUES = 16_384  # of a body: each is an object of Python, and may be an error of its own
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


async def read_fields(request: Request, schema: type[Fields], *, most_bytes: int) -> Fields:
    """The request's JSON body as a `schema`.

    Raises:
        RequestTooLarge: above `most_bytes`, noticed before it is all here.
        InvalidRequest: another content type, not JSON, or fields that are unknown, unsupported or wrong.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # what a page in a browser may send anywhere without asking is not
        raise InvalidRequest(
            f"expected the content type application/json, found {kind[:SHOWN] or 'none'}",
            hint="send the header Content-Type: application/json",
        )
    return parse_fields(await _read(request, most_bytes), schema)


def parse_fields(body: bytes, schema: type[Fields]) -> Fields:
    """`body` as a `schema`. Raises InvalidRequest."""
    if _has_too_many_values(body):
        raise InvalidRequest(f"the body must have at most {MOST_VALUES:,} values", hint="send fewer messages or parts")
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        if "recursion limit" in str(error):
            raise InvalidRequest("the body is nested too deep", hint="nest fewer than 200 levels") from error
        raise InvalidRequest(f"the body is not valid JSON: {error}", hint="check quotes, commas and UTF-8") from error
    if not isinstance(document, dict):
        raise InvalidRequest(
            f"the body must be a JSON object, found {_short(document)}", hint='send {"model": ..., ...}'
        )
    if issubclass(schema, AnswerFields):
        document = without_ignored(document, known=schema.model_fields)
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        raise _named(error.errors(include_url=False)[0], schema) from error


def _has_too_many_values(body: bytes) -> bool:
    """Whether JSON has more than `MOST_VALUES`, before a parser makes objects of them."""
    if _separators(body) <= MOST_VALUES:
        return False
    rest, strings = _STRING.subn(b"", body, count=2 * MOST_VALUES)  # keys are no values
    return strings == 2 * MOST_VALUES or _separators(rest) > MOST_VALUES


def _separators(text: bytes) -> int:
    return sum(map(text.count, (b",", b"[", b"{")))


async def _read(request: Request, most_bytes: int) -> bytes:
    too_large = RequestTooLarge(
        f"the body has more than {most_bytes:,} bytes", hint="shorten it, or raise server.max_body_bytes"
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > most_bytes:
        raise too_large
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > most_bytes:
                raise too_large
    except ClientDisconnect as error:
        raise RequestCancelled("the caller closed the connection before its request was complete") from error
    return bytes(body)


def _named(detail: ErrorDetails, schema: type[BaseModel]) -> InvalidRequest:
    """The first of pydantic's complaints in our words."""
    field = _path(detail["loc"])
    if detail["type"] == "missing":
        return InvalidRequest(f"{field} is missing", hint=f"give {field}", param=field)
    if detail["type"] == "extra_forbidden":
        known = _fields_at(schema, detail["loc"][:-1])
        close = difflib.get_close_matches(str(detail["loc"][-1])[:SHOWN], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known)}"
        return InvalidRequest(f"{field} is not a field of this request", hint=hint, param=field)
    said = re.sub("^(Input|Value|String|List|Dictionary) should", "must", detail["msg"])
    return InvalidRequest(f"{field}: {said}, found {_short(detail['input'])}", hint=f"change {field}", param=field)


def _fields_at(schema: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The names that an object inside of `schema` knows."""
    for part in location:
        kinds = [] if isinstance(part, int) else _schemas_in(schema.model_fields[part].annotation)
        schema = kinds[0] if kinds else schema
    return list(schema.model_fields)


def _schemas_in(annotation: Any) -> list[type[BaseModel]]:
    """The schema that an annotation is, or those inside of it, as in ``list[Message]`` and ``Hints | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [schema for inner in get_args(annotation) for schema in _schemas_in(inner)]


def _path(location: tuple[int | str, ...]) -> str:
    """``messages[0].content``, short enough for a message whatever the caller made up."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".")[:SHOWN] or "the body"


def _short(value: Any) -> str:
    """`value` for a message."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value[:SHOWN] if isinstance(value, str) else value) if not _is_huge(value) else "a very large number"
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() > 64  # Python refuses to print some of these
