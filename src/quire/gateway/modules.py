"""GET /v1/modules and /v1/modules/{name}: what can answer, as the registry has it now."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from quire.errors import ModuleUnknown
from quire.gateway.schemas import MODULE

if TYPE_CHECKING:
    from quire.gateway.gateway import Gateway
    from quire.registry import Registry, VersionRecord


def check_name(name: str) -> None:
    """Raises ModuleUnknown for what cannot be ``name`` or ``name@version``."""
    if not re.fullmatch(MODULE, name):
        raise ModuleUnknown(
            f"{name[:64]!r} is not the name of a module", hint="GET /v1/modules lists the names; name@version works too"
        )


async def list_modules(request: Request) -> Response:
    """The live version of every module that has one."""
    gateway: Gateway = request.app.state.gateway
    bodies = await asyncio.to_thread(_live_modules, gateway.project.registry)
    return JSONResponse({"object": "list", "data": bodies})


async def get_module(request: Request) -> Response:
    """One module: its live version, or the one named with ``name@version``, and the chain it stands on."""
    gateway: Gateway = request.app.state.gateway
    name = request.path_params["name"]
    check_name(name)
    return JSONResponse(await asyncio.to_thread(_one_module, gateway.project.registry, name))


def module_body(record: VersionRecord) -> dict[str, Any]:
    """The JSON value for one version of a module. Sizes in tokens and bytes, times in ISO 8601, UTC."""
    return {
        "object": "module",
        "module": record.module_id,
        "version": record.version,
        "digest": record.digest,
        "state": record.state,
        "title": record.title,
        "scope": str(record.scope),
        "parent": str(record.parent) if record.parent else None,
        "tokens": record.token_count,
        "position_start": record.position_start,
        "bytes": record.bytes,
        "created_at": record.created_at.isoformat(),
        "expires_at": record.expires_at.isoformat() if record.expires_at else None,
    }


def _live_modules(registry: Registry) -> list[dict[str, Any]]:
    live = sorted((r for r in registry.versions() if r.state == "live"), key=lambda r: r.module_id)
    return [module_body(record) for record in live]


def _one_module(registry: Registry, name: str) -> dict[str, Any]:
    record = registry.resolve(name)
    return {
        **module_body(record),
        "chain": [str(link.ref) for link in registry.chain(record)],
        "versions": [{"version": r.version, "state": r.state} for r in registry.versions(record.module_id)],
    }
