"""The application: every endpoint behind its checks, and what becomes of an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from quire.errors import QuireError
from quire.gateway.accounting import Accounting
from quire.gateway.authentication import addressed_here, authenticated
from quire.gateway.endpoints import ENDPOINTS, OPEN_ENDPOINTS
from quire.gateway.error_bodies import error_response, http_error_response
from quire.gateway.gateway import Gateway

if TYPE_CHECKING:
    from quire.project import Project


def create_app(project: Project, *, load: bool = True) -> FastAPI:
    """An ASGI application that answers from `project`.

    The project stays the caller's, who closes it after the application has shut down.

    Args:
        load: load the model when the application starts; else the caller does, by `Gateway.load`.
    """
    gateway = Gateway(project)
    app = FastAPI(
        title="Quire",
        lifespan=_loading if load else _loaded_elsewhere,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.gateway = gateway
    app.add_middleware(Accounting, gateway=gateway)
    app.add_exception_handler(QuireError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    for endpoints, checked_by in ((ENDPOINTS, authenticated), (OPEN_ENDPOINTS, addressed_here)):
        checks = [Depends(checked_by)]
        for one in endpoints:
            app.add_api_route(one.path, one.answer, methods=[one.method], response_model=None, dependencies=checks)
    return app


@asynccontextmanager
async def _loading(app: FastAPI) -> AsyncIterator[None]:
    gateway: Gateway = app.state.gateway
    await asyncio.to_thread(gateway.load)
    async with _loaded_elsewhere(app):
        yield


@asynccontextmanager
async def _loaded_elsewhere(app: FastAPI) -> AsyncIterator[None]:
    gateway: Gateway = app.state.gateway
    yield
    gateway.drain()
    gateway.abandon()
    await asyncio.to_thread(gateway.close)


async def _on_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, QuireError):  # for the type checker: it is registered for these
        raise error
    return error_response(request, error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 405:  # Starlette names the methods of the first route alone
        headers["allow"] = ", ".join(sorted(_methods(request)))
    return http_error_response(request, error.status_code, headers)


def _methods(request: Request) -> set[str]:
    """What the request's path takes."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    fitting = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in fitting for method in route.methods or ()}
