"""GET /v1/models, and what the field `model` of a request selects.

One model is served. It answers to its own name and to `quire`; `quire/MODULE` is the same model with that module.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from quire.access import readable_scopes
from quire.errors import InvalidRequest, ModelNotFound, QuireError
from quire.gateway.authentication import principal_of
from quire.gateway.modules import check_name

if TYPE_CHECKING:
    from quire.access import Principal
    from quire.gateway.gateway import Gateway
    from quire.gateway.schemas import QuireFields

ALIAS = "quire"


def named_module(gateway: Gateway, model: str, fields: QuireFields) -> str | None:
    """The module that a request names, by its model's alias or its `quire` object; None: the rules decide.

    Raises:
        ModelNotFound: a model that is not served.
        InvalidRequest: two modules are named.
    """
    alias, slash, module = model.partition("/")
    if model in {gateway.model_name, ALIAS}:
        return fields.module
    if alias != ALIAS or not slash:
        raise _not_served(gateway, model)
    try:
        check_name(module)
    except QuireError as error:
        raise _not_served(gateway, model) from error
    if fields.module not in {None, module}:
        raise InvalidRequest(
            f"model names the module {module}, quire.module names {fields.module}",
            hint="name it in one place",
            param="quire.module",
        )
    return module


async def list_models(request: Request) -> Response:
    """The model, its alias, and an alias for each module that the caller may ask."""
    gateway: Gateway = request.app.state.gateway
    return JSONResponse(
        {"object": "list", "data": [_body(gateway, name) for name in await _served(gateway, principal_of(request))]}
    )


async def get_model(request: Request) -> Response:
    """One of the models and aliases."""
    gateway: Gateway = request.app.state.gateway
    name = request.path_params["model"]
    if name not in await _served(gateway, principal_of(request)):
        raise _not_served(gateway, name)
    return JSONResponse(_body(gateway, name))


async def _served(gateway: Gateway, principal: Principal) -> list[str]:
    modules = await asyncio.to_thread(gateway.project.known.within(readable_scopes(principal)).modules)
    return [gateway.model_name, ALIAS, *(f"{ALIAS}/{m.module_id}" for m in modules if m.live)]


def _body(gateway: Gateway, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": gateway.started_at, "owned_by": ALIAS}


def _not_served(gateway: Gateway, name: str) -> ModelNotFound:
    return ModelNotFound(
        f"the model {name[:64]!r} is not served, found {gateway.model_name!r}",
        hint=f"use {gateway.model_name!r}, {ALIAS!r}, or '{ALIAS}/MODULE'; GET /v1/models lists them",
    )
