"""/v1/admin/keys: the API keys of a tenant, for its administrators."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from quire.access import readable_scopes
from quire.gateway.authentication import principal_of
from quire.gateway.body import read_fields
from quire.gateway.schemas import KeyFields, ReasonFields
from quire.registry import NOT_MADE, telling

if TYPE_CHECKING:
    from quire.access import KeyRecord, Principal
    from quire.gateway.gateway import Gateway


async def whoami(request: Request) -> Response:
    """Whom the credential stands for, and what that one may read."""
    return JSONResponse({"object": "principal", **_principal_body(principal_of(request))})


async def list_keys(request: Request) -> Response:
    """The keys of the caller's tenant, or those of all tenants for an operator. Raises AccessDenied."""
    gateway: Gateway = request.app.state.gateway
    records = await asyncio.to_thread(gateway.project.access.keys.all, principal_of(request))
    return JSONResponse({"object": "list", "data": [key_body(record) for record in records]})


async def create_key(request: Request) -> Response:
    """Make a key; the response is the only place where it is shown. Raises AccessDenied, InvalidRequest."""
    gateway: Gateway = request.app.state.gateway
    fields = await read_fields(request, KeyFields, most_bytes=gateway.most_body_bytes)
    by = principal_of(request)
    days = fields.expires_in_days
    with telling(NOT_MADE):
        record, key = await asyncio.to_thread(
            gateway.project.access.keys.create,
            by,
            fields.title,
            tenant=fields.tenant or by.tenant,
            user=fields.user or "",
            workspaces=fields.workspaces,
            roles=fields.roles,
            expires_at=None if days is None else datetime.now(UTC) + timedelta(days=days),
        )
    return JSONResponse({**key_body(record), "key": key}, 201, {"cache-control": "no-store"})


async def get_key(request: Request) -> Response:
    """One key. Raises AccessDenied, KeyUnknown."""
    gateway: Gateway = request.app.state.gateway
    key_id = request.path_params["key_id"]
    return JSONResponse(
        key_body(await asyncio.to_thread(gateway.project.access.keys.get, principal_of(request), key_id))
    )


async def revoke_key(request: Request) -> Response:
    """Let a key open nothing from now on. Raises AccessDenied, KeyUnknown."""
    gateway: Gateway = request.app.state.gateway
    fields = await read_fields(request, ReasonFields, most_bytes=gateway.most_body_bytes)
    key_id = request.path_params["key_id"]
    revoke = gateway.project.access.keys.revoke
    with telling(NOT_MADE):
        return JSONResponse(key_body(await asyncio.to_thread(revoke, principal_of(request), key_id, fields.reason)))


def key_body(record: KeyRecord) -> dict[str, Any]:
    """The JSON value for a key, without its secret, which nobody has."""
    return {"object": "key", **record.as_json()}


def _principal_body(principal: Principal) -> dict[str, Any]:
    reach = readable_scopes(principal)
    return {
        "tenant": principal.tenant,
        "user": principal.user or None,
        "workspaces": sorted(principal.workspaces),
        "roles": sorted(principal.roles),
        "key": principal.key_id or None,
        "reads": ["everything"] if reach.everything else sorted(map(str, reach.scopes)),
    }
