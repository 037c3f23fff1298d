"""Errors as callers see them: an HTTP status and OpenAI's `{"error": {message, type, param, code}}`.

Messages about the request are passed on. Messages about the server's own files are logged and not passed on: they
name paths.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from quire.errors import (
    ArtifactError,
    ContextExceeded,
    EngineBusy,
    EngineStopped,
    InvalidRequest,
    ModelMismatch,
    ModelNotFound,
    ModuleUnknown,
    NoLiveVersion,
    NoRoute,
    QuireError,
    RegistryBusy,
    RegistryError,
    RequestCancelled,
    RequestTooLarge,
    StoreError,
    VersionUnknown,
)

if TYPE_CHECKING:
    from starlette.requests import Request

    from quire.gateway.gateway import Gateway

log = logging.getLogger(__name__)

STATUS: dict[type[QuireError], int] = {
    InvalidRequest: 400,
    ContextExceeded: 400,
    ModelNotFound: 404,
    ModuleUnknown: 404,
    VersionUnknown: 404,
    NoLiveVersion: 404,
    RequestTooLarge: 413,
    NoRoute: 422,
    EngineBusy: 429,
    RequestCancelled: 499,
    EngineStopped: 503,
    RegistryError: 503,
    StoreError: 503,
}
# What is said instead of a message that may name the server's paths.
DISCREET: dict[type[QuireError], str] = {
    ArtifactError: "the module's artifact failed its checks, so nothing was generated from it",
    StoreError: "the module's artifact could not be had from the store",
    RegistryError: "the registry could not be read",
    ModelMismatch: "the module was compiled for another model than the one that is served",
    QuireError: "the answer could not be generated",
}
RETRY_AFTER: dict[type[QuireError], str] = {EngineBusy: "1", RegistryBusy: "1", EngineStopped: "5"}  # seconds
OPENAI_CODES: dict[type[QuireError], str] = {ContextExceeded: "context_length_exceeded"}
INTERNAL = QuireError("the server made a mistake", hint="its log has the details under this request's id")


def status_of(error: QuireError) -> int:
    """The HTTP status: that of the closest class in STATUS, else 500."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def error_body(error: QuireError) -> dict[str, Any]:
    """The JSON value for `error`; its message has the hint in it."""
    status = status_of(error)
    if status < 500 or isinstance(error, EngineStopped) or error is INTERNAL:
        said = f"{error.message}. Hint: {error.hint}" if error.hint else error.message
    else:
        said = next(DISCREET[kind] for kind in type(error).__mro__ if kind in DISCREET)
        said += ". Hint: the operator finds the details in the server's log"
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": said,
            "type": "rate_limit_error" if status == 429 else kind,
            "param": error.param if isinstance(error, InvalidRequest) else None,
            "code": "internal_error" if error is INTERNAL else OPENAI_CODES.get(type(error), error.code),
        }
    }


def note(error: QuireError, gateway: Gateway, request_id: str) -> dict[str, Any]:
    """Count `error`, log it if it is the server's fault, and give its body."""
    body = error_body(error)
    gateway.metrics.errors.labels(body["error"]["code"]).inc()
    if status_of(error) >= 500 and not isinstance(error, EngineStopped):
        log.error("%s: %s: %s (%s)", request_id, error.code, error.message, error.hint or "no hint")
    return body


def error_response(request: Request, error: QuireError) -> JSONResponse:
    """The whole response for `error`."""
    body = note(error, request.app.state.gateway, request.scope["quire.request_id"])
    wait = next((RETRY_AFTER[kind] for kind in type(error).__mro__ if kind in RETRY_AFTER), None)
    return JSONResponse(body, status_of(error), {"retry-after": wait} if wait else None)


def http_error_response(request: Request, status: int, headers: dict[str, str] | None) -> JSONResponse:
    """For what the web framework refuses by itself: unknown paths and methods."""
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "http_error")
    said = {
        404: f"there is nothing at {request.url.path}. Hint: docs/http.md lists the paths",
        405: f"{request.url.path} does not take {request.method}. Hint: see the Allow header",
    }.get(status, f"HTTP {status}")
    request.app.state.gateway.metrics.errors.labels(code).inc()
    error = {"message": said, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": error}, status, headers)
