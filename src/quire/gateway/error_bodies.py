"""Errors as callers see them: an HTTP status and OpenAI's `{"error": {message, type, param, code}}`.

Messages about the request are passed on. Messages about the server's own files are logged and not passed on: they
name paths.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from quire.errors import (
    AccessDenied,
    ArtifactError,
    CanaryRunning,
    ContextExceeded,
    EngineBusy,
    EngineLoading,
    EngineStopped,
    GoldenFailed,
    GoldenNotRun,
    IllegalTransition,
    InvalidRequest,
    KeyUnknown,
    LimitError,
    ModelChanged,
    ModelMismatch,
    ModelNotFound,
    ModuleChanged,
    ModuleExpired,
    ModuleRevoked,
    ModuleStale,
    ModuleUnknown,
    NoCanary,
    NoLiveVersion,
    NoRoute,
    NothingToRollBack,
    QuireError,
    QuotaExhausted,
    RateLimited,
    RegistryBusy,
    RegistryError,
    RegistryUnreachable,
    RegistryUnwritable,
    RequestCancelled,
    RequestTooLarge,
    ResourceError,
    StoreError,
    StoreUnreachable,
    TokenKeysMissing,
    Unauthenticated,
    VersionUnknown,
)
from quire.gateway.passage import passage_of
from quire.gateway.rates import rate_headers, refusal_headers
from quire.telemetry import fields

if TYPE_CHECKING:
    from starlette.requests import Request

    from quire.gateway.gateway import Gateway

log = logging.getLogger(__name__)

STATUS: dict[type[QuireError], int] = {
    InvalidRequest: 400,
    ContextExceeded: 400,
    Unauthenticated: 401,
    AccessDenied: 403,
    KeyUnknown: 404,
    ModelNotFound: 404,
    ModuleUnknown: 404,
    VersionUnknown: 404,
    NoLiveVersion: 404,
    RequestTooLarge: 413,
    IllegalTransition: 409,
    CanaryRunning: 409,
    NoCanary: 404,
    GoldenFailed: 409,
    GoldenNotRun: 409,
    RateLimited: 429,
    QuotaExhausted: 429,
    NothingToRollBack: 409,
    NoRoute: 422,
    ModuleStale: 409,
    ModuleExpired: 410,
    ModuleRevoked: 410,
    EngineBusy: 429,
    RequestCancelled: 499,
    EngineLoading: 503,
    EngineStopped: 503,
    ModuleChanged: 503,
    ModelChanged: 503,
    RegistryError: 503,
    ResourceError: 503,
    StoreError: 503,
    TokenKeysMissing: 503,
}
# What is said instead of a message that may name the server's paths.
DISCREET: dict[type[QuireError], str] = {
    ModuleChanged: "the module's bytes changed while it answered: do not use what was answered so far",
    ModelChanged: "the model's files changed under the server, which answers nothing until it is restarted",
    ArtifactError: "the module's artifact failed its checks, so nothing was generated from it",
    StoreError: "the module's artifact could not be had from the store",
    ResourceError: "the server has no room to open what it needs: too much is in use at once",
    RegistryBusy: "others kept the registry locked",
    RegistryUnreachable: "the registry cannot be reached",
    RegistryUnwritable: "the registry cannot be written",
    RegistryError: "the registry could not be read",
    TokenKeysMissing: "the keys of the tokens' issuer could not be had, so no token can be checked",
    ModelMismatch: "the module was compiled for another model than the one that is served",
    QuireError: "the answer could not be generated",
}
RETRY_AFTER: dict[type[QuireError], str] = {
    EngineBusy: "1",
    RegistryBusy: "1",
    RegistryUnreachable: "5",
    EngineLoading: "5",
    EngineStopped: "5",
    ModuleChanged: "1",
    ResourceError: "1",
    StoreUnreachable: "2",
    TokenKeysMissing: "2",
}  # seconds
OPENAI_CODES: dict[type[QuireError], str] = {
    ContextExceeded: "context_length_exceeded",
    Unauthenticated: "invalid_api_key",
    RateLimited: "rate_limit_exceeded",
    QuotaExhausted: "insufficient_quota",
}
NOT_NOW = (EngineLoading, EngineStopped)  # nothing is wrong: a server begins and ends
INTERNAL = QuireError("the server made a mistake", hint="its log has the details under this request's id")


def status_of(error: QuireError) -> int:
    """The HTTP status: that of the closest class in STATUS, else 500."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def error_body(error: QuireError) -> dict[str, Any]:
    """The JSON value for `error`; its message has the hint in it."""
    status = status_of(error)
    if status < 500 or isinstance(error, NOT_NOW) or error is INTERNAL:
        said = f"{error.message}. Hint: {error.hint}" if error.hint else error.message
    else:
        said = next(DISCREET[kind] for kind in type(error).__mro__ if kind in DISCREET)
        if error.outcome:
            said += f"; {error.outcome}"
        said += ". Hint: the operator finds the details in the server's log"
    code = "internal_error" if error is INTERNAL else OPENAI_CODES.get(type(error), error.code)
    return {
        "error": {
            "message": said,
            "type": code if isinstance(error, LimitError) else _type_of(status),
            "param": error.param if isinstance(error, InvalidRequest) else None,
            "code": code,
        }
    }


def _type_of(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def note(error: QuireError, request: Request) -> dict[str, Any]:
    """Count `error`, log it if it is the server's fault, and give its body."""
    body = error_body(error)
    _count(body["error"]["code"], request)
    if limit := error.limit if isinstance(error, LimitError) else "engine" if isinstance(error, EngineBusy) else "":
        request.app.state.gateway.metrics.limit_refusals.labels(limit).inc()
    if status_of(error) >= 500 and not isinstance(error, NOT_NOW):
        log.error("a request could not be answered", extra=fields(code=error.code, why=error.message, hint=error.hint))
    return body


def error_response(request: Request, error: QuireError) -> JSONResponse:
    """The whole response for `error`."""
    body = note(error, request)
    wait = next((RETRY_AFTER[kind] for kind in type(error).__mro__ if kind in RETRY_AFTER), None)
    headers = {"retry-after": wait} if wait else {}
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, LimitError):
        standing = request.app.state.gateway.project.limiter.standing(request.state.principal.tenant)
        headers |= refusal_headers(error) | rate_headers(standing)
    return JSONResponse(body, status_of(error), headers)


def http_error_response(request: Request, status: int, headers: dict[str, str] | None) -> JSONResponse:
    """For what the web framework refuses by itself: unknown paths and methods."""
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "http_error")
    said = {
        404: f"there is nothing at {request.url.path}. Hint: docs/http.md lists the paths",
        405: f"{request.url.path} does not take {request.method}. Hint: see the Allow header",
    }.get(status, f"HTTP {status}")
    _count(code, request)
    error = {"message": said, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": error}, status, headers)


def _count(code: str, request: Request) -> None:
    gateway: Gateway = request.app.state.gateway
    gateway.metrics.errors.labels(code).inc()
    passage_of(request).error = code
