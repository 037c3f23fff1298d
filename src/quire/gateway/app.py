"""The application: which path is answered by what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from quire.errors import QuireError
from quire.gateway import chat, completions, health, models, modules, routes
from quire.gateway.accounting import Accounting
from quire.gateway.error_bodies import error_response, http_error_response
from quire.gateway.gateway import Gateway
from quire.gateway.local_only import local_only

if TYPE_CHECKING:
    from quire.project import Project

ENDPOINTS: tuple[tuple[str, str, Callable[[Request], Awaitable[Response]]], ...] = (
    ("POST", "/v1/chat/completions", chat.chat_completions),
    ("POST", "/v1/completions", completions.completions),
    ("GET", "/v1/models", models.list_models),
    ("GET", "/v1/models/{model:path}", models.get_model),
    ("GET", "/v1/modules", modules.list_modules),
    ("GET", "/v1/modules/{name}", modules.get_module),
    ("POST", "/v1/routes/explain", routes.explain_route),
    ("GET", "/healthz", health.healthz),
    ("GET", "/readyz", health.readyz),
    ("GET", "/metrics", health.metrics),
)


def create_app(project: Project) -> FastAPI:
    """An ASGI application that answers from `project`. Loads the model when it starts.

    The project stays the caller's, who closes it after the application has shut down.
    """
    gateway = Gateway(project)
    app = FastAPI(
        title="Quire",
        lifespan=_lifespan,
        dependencies=[Depends(local_only)],
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.gateway = gateway
    app.add_middleware(Accounting, gateway=gateway)
    app.add_exception_handler(QuireError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    for method, path, endpoint in ENDPOINTS:
        app.add_api_route(path, endpoint, methods=[method], response_model=None)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    gateway: Gateway = app.state.gateway
    await asyncio.to_thread(gateway.load)
    yield
    gateway.drain()
    gateway.abandon()


async def _on_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, QuireError):  # for the type checker: it is registered for these
        raise error
    return error_response(request, error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return http_error_response(request, error.status_code, dict(error.headers or {}))
