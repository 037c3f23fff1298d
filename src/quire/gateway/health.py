"""GET /healthz: the process answers. GET /readyz: it can answer questions. GET /metrics: how it has been doing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from quire.gateway.authentication import principal_of
from quire.gateway.metrics import CONTENT_TYPE
from quire.gateway.readiness import CHECKS

if TYPE_CHECKING:
    from quire.gateway.gateway import Gateway


async def healthz(_request: Request) -> Response:
    """200 as long as the event loop turns."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """200 when questions can be answered now, else 503; what is missing, check by check, without names."""
    gateway: Gateway = request.app.state.gateway
    failed = {one.check: one for one in await gateway.in_thread(gateway.readiness.missing)}
    checks: dict[str, dict[str, Any]] = {
        check.name: {"ok": False, "code": failed[check].code, "reason": check.told} if check in failed else {"ok": True}
        for check in CHECKS
    }
    if (registry := gateway.project.follower.state()).error and checks["registry"]["ok"]:
        checks["registry"] |= {"last_known_seconds": round(registry.behind_seconds, 1), "missing": registry.missing}
    if checks["versions"]["ok"] and gateway.restart_needed():
        checks["versions"] |= {"restart_needed": True}
    if not failed:
        return JSONResponse({"status": "ready", "checks": checks})
    first = next(iter(failed.values()))
    return JSONResponse({"status": "not ready", "code": first.code, "checks": checks}, 503)


async def metrics(request: Request) -> Response:
    """The figures in Prometheus' text format, for whoever may see the whole server. Raises AccessDenied."""
    gateway: Gateway = request.app.state.gateway
    gateway.project.access.policy.require(principal_of(request), "observe")
    figures = await asyncio.to_thread(gateway.metrics.exposition)
    return Response(figures, media_type=CONTENT_TYPE)
