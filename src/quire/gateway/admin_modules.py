"""/v1/admin/modules/{name}/...: which version of a module is live, for its tenant's publishers."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from quire.access import readable_scopes
from quire.errors import ModuleUnknown, NoLiveVersion, RegistryBusy, RegistryUnreachable
from quire.gateway.authentication import principal_of
from quire.gateway.body import read_fields
from quire.gateway.modules import check_name, module_body
from quire.gateway.schemas import ChangeFields, ReasonFields
from quire.registry import NOT_MADE, telling
from quire.telemetry import fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from quire.access import Principal
    from quire.gateway.gateway import Gateway
    from quire.project import Project
    from quire.registry import Registry, VersionRecord

log = logging.getLogger(__name__)


async def publish_module(request: Request) -> Response:
    """Make a version live. It is asked its golden tests first, if it was not yet."""
    gateway: Gateway = request.app.state.gateway
    fields = await read_fields(request, ChangeFields, most_bytes=gateway.most_body_bytes)

    def publish(project: Project, record: VersionRecord, by: dict[str, str]) -> VersionRecord:
        return project.publish(record, **by)

    return await _changed(request, f"@{fields.version}", fields.reason, publish)


async def retire_module(request: Request) -> Response:
    """Take the live version out of service."""
    gateway: Gateway = request.app.state.gateway
    fields = await read_fields(request, ReasonFields, most_bytes=gateway.most_body_bytes)

    def retire(project: Project, record: VersionRecord, by: dict[str, str]) -> VersionRecord:
        return project.registry.retire(record.module_id, record.version, **by)

    return await _changed(request, "", fields.reason, retire)


async def revoke_module(request: Request) -> Response:
    """Forbid a version for good, and all that was compiled after it."""
    gateway: Gateway = request.app.state.gateway
    fields = await read_fields(request, ChangeFields, most_bytes=gateway.most_body_bytes)

    def revoke(project: Project, record: VersionRecord, by: dict[str, str]) -> VersionRecord:
        project.revoke(record, **by)
        return replace(record, state="revoked")

    return await _changed(request, f"@{fields.version}", fields.reason, revoke)


async def rollback_module(request: Request) -> Response:
    """Make the given version live again, which was live before."""
    gateway: Gateway = request.app.state.gateway
    fields = await read_fields(request, ChangeFields, most_bytes=gateway.most_body_bytes)

    def roll_back(project: Project, record: VersionRecord, by: dict[str, str]) -> VersionRecord:
        project.share([record])
        return project.registry.rollback(record.module_id, to=record.version, **by)[1]

    return await _changed(request, f"@{fields.version}", fields.reason, roll_back)


async def _changed(
    request: Request,
    version: str,
    reason: str,
    change: Callable[[Project, VersionRecord, dict[str, str]], VersionRecord],
) -> Response:
    """The response to a change of what `version` of the path's module stands for.

    It waits a moment for the other servers; ``quire-unconfirmed`` says how many have not followed by then, or
    that it is unknown.

    Raises:
        ModuleUnknown, VersionUnknown, NoLiveVersion: of what the caller sees.
        AccessDenied: it sees the module, and may not change it.
        IllegalTransition, NothingToRollBack, ChainBroken, GoldenFailed, GoldenNotRun.
    """
    gateway: Gateway = request.app.state.gateway
    principal, name = principal_of(request), request.path_params["name"]
    check_name(name)

    def run() -> tuple[dict[str, Any], str]:
        with telling(NOT_MADE):
            record = changeable(gateway.project, principal, name, version)
            body = module_body(change(gateway.project, record, {"actor": str(principal), "reason": reason}))
        return body, _unconfirmed(gateway.project.registry)

    body, unconfirmed = await gateway.in_thread(run)
    return JSONResponse(body, headers={"quire-unconfirmed": unconfirmed})


def _unconfirmed(registry: Registry) -> str:
    """The change is made: that nobody can be asked about it any more does not take it back."""
    try:
        return str(len(registry.gateways.unconfirmed(registry.generation())))
    except (RegistryBusy, RegistryUnreachable) as error:
        log.warning("nobody can say which servers follow a change", extra=fields(why=error.message))
        return "unknown"


def changeable(project: Project, principal: Principal, name: str, version: str) -> VersionRecord:
    """The version meant. The one that is live, which a change may replace, must be the caller's to change as well."""
    policy = project.access.policy
    if not principal.may("publish"):
        policy.require(principal, "publish", name=name)
    view = project.registry.within(readable_scopes(principal))
    try:
        record = view.resolve(name + version)
    except ModuleUnknown:
        policy.note_unseen(principal, name, "publish")
        raise
    policy.require(principal, "publish", record.scope, owner=record.tenant_id, name=name)
    with suppress(NoLiveVersion):
        live = view.live(record.module_id)
        policy.require(principal, "publish", live.scope, owner=live.tenant_id, name=name)
    return record
