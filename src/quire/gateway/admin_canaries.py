"""/v1/admin/modules/{name}/canary: a candidate beside the live version, for its tenant's publishers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from quire.gateway.admin_modules import changeable
from quire.gateway.authentication import principal_of
from quire.gateway.body import read_fields
from quire.gateway.modules import check_name
from quire.gateway.schemas import CanaryFields, ReasonFields
from quire.registry import NOT_MADE, telling

if TYPE_CHECKING:
    from quire.gateway.gateway import Gateway
    from quire.registry import Canary


async def get_canary(request: Request) -> Response:
    """What was seen of the two versions, of the canary that runs or else of the last one. Raises NoCanary."""
    gateway: Gateway = request.app.state.gateway
    principal, name = principal_of(request), request.path_params["name"]
    check_name(name)

    def run() -> dict[str, Any]:
        record = changeable(gateway.project, principal, name, "")
        canaries = gateway.project.registry.canaries
        last = next(iter(canaries.newest(record.module_id, 1)), None)
        return _body(last or canaries.current(record.module_id))

    return JSONResponse(await gateway.in_thread(run))


async def start_canary(request: Request) -> Response:
    """Let a version answer a share of its module's requests, or be asked what the live one answered, or both."""
    gateway: Gateway = request.app.state.gateway
    principal, name = principal_of(request), request.path_params["name"]
    check_name(name)
    fields = await read_fields(request, CanaryFields, most_bytes=gateway.most_body_bytes)

    def run() -> dict[str, Any]:
        with telling(NOT_MADE):
            record = changeable(gateway.project, principal, name, f"@{fields.version}")
            begun = gateway.project.start_canary(
                record, percent=fields.percent, shadow=fields.shadow, actor=str(principal), reason=fields.reason
            )
        return _body(begun)

    return JSONResponse(await gateway.in_thread(run), 201)


async def stop_canary(request: Request) -> Response:
    """End it: the live version answers everything again. Raises NoCanary."""
    gateway: Gateway = request.app.state.gateway
    principal, name = principal_of(request), request.path_params["name"]
    check_name(name)
    fields = await read_fields(request, ReasonFields, most_bytes=gateway.most_body_bytes)

    def run() -> dict[str, Any]:
        canaries = gateway.project.registry.canaries
        with telling(NOT_MADE):
            record = changeable(gateway.project, principal, name, "")
            return _body(canaries.stop(record.module_id, actor=str(principal), reason=fields.reason))

    return JSONResponse(await gateway.in_thread(run))


def _body(canary: Canary) -> dict[str, Any]:
    return {"object": "canary", **canary.as_json()}
