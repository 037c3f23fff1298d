"""GET /healthz: the process answers. GET /readyz: it can answer questions. GET /metrics: how it has been doing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from quire.errors import NoLiveVersion, QuireError
from quire.gateway.error_bodies import error_body
from quire.gateway.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from quire.gateway.gateway import Gateway
    from quire.pool import Pool
    from quire.registry import Registry


async def healthz(_request: Request) -> Response:
    """200 as long as the event loop turns."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """200 when the model is loaded, the registry reads, and a live module can be leased; else 503 with the reason."""
    gateway: Gateway = request.app.state.gateway
    try:
        gateway.check_open()
        runtime = gateway.runtime
        await asyncio.to_thread(lease_one, gateway.project.registry, runtime.pool)
    except QuireError as error:
        said = error_body(error)["error"]
        return JSONResponse({"status": "not ready", "code": said["code"], "reason": said["message"]}, 503)
    return JSONResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """The figures in Prometheus' text format."""
    gateway: Gateway = request.app.state.gateway
    return Response(gateway.metrics.exposition(), media_type=CONTENT_TYPE)


def lease_one(registry: Registry, pool: Pool) -> None:
    """Lease a live module, the first that can be leased, and give it back.

    Raises:
        NoLiveVersion, or why the last one tried could not be leased.
    """
    last: QuireError = NoLiveVersion("no module has a live version", hint="run `quire build`")
    for summary in registry.modules():
        if summary.live is None:
            continue
        try:
            pool.lease(registry.chain(registry.live(summary.module_id))).release()
        except QuireError as error:
            last = error
        else:
            return
    raise last
