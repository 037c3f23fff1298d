"""GET /v1/admin/audit: what was done in a tenant, for its auditors; in all of them, for an operator."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from quire.core import Scope
from quire.errors import InvalidRequest, SettingsError
from quire.gateway.authentication import principal_of
from quire.registry import KINDS, AuditFilter, moment_of

if TYPE_CHECKING:
    from quire.access import Principal
    from quire.gateway.gateway import Gateway
    from quire.project import Project
    from quire.registry import AuditRecord

MOST = 1000  # records of one response
TEXT: dict[str, Any] = {"type": "string"}
PARAMETERS: dict[str, dict[str, Any]] = {
    "kind": {"type": "array", "items": {"enum": sorted({*KINDS, *(kind.partition(".")[0] for kind in KINDS)})}},
    **dict.fromkeys(("who", "module", "tenant", "since", "until"), TEXT),
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST},
}
# Of one record after another these tell how much other tenants do.
CHAIN = ("sequence", "generation", "previous", "hash")


async def list_records(request: Request) -> Response:
    """The newest records that the query lets through. Raises AccessDenied, InvalidRequest."""
    gateway: Gateway = request.app.state.gateway
    principal = principal_of(request)
    limit = _limit(request.query_params.get("limit", "100"))
    wanted = _wanted(request, principal)
    return JSONResponse(await asyncio.to_thread(_read, gateway.project, principal, wanted, limit))


def _read(project: Project, principal: Principal, wanted: AuditFilter, limit: int) -> dict[str, Any]:
    concerned = None if wanted.tenant is None else Scope("tenant", wanted.tenant)
    project.access.policy.require(principal, "audit", concerned)
    records = project.registry.audit.newest(wanted, limit + 1)
    data = [_body(record, whole=principal.is_operator) for record in records[:limit]]
    return {"object": "list", "data": data, "has_more": len(records) > limit}


def _body(record: AuditRecord, *, whole: bool) -> dict[str, Any]:
    hidden = {} if whole else dict.fromkeys(CHAIN)
    return {"object": "audit.record", **record.as_json(), **hidden}


def _wanted(request: Request, principal: Principal) -> AuditFilter:
    asked = request.query_params
    for name in asked:
        if name not in PARAMETERS:
            raise InvalidRequest(
                f"{name[:60]} is not a parameter of this request", hint=f"it has {', '.join(sorted(PARAMETERS))}"
            )
    try:
        return AuditFilter(
            kinds=tuple(dict.fromkeys(asked.getlist("kind"))),  # each is a condition of the query
            who=asked.get("who"),
            module=asked.get("module"),
            tenant=asked.get("tenant", None if principal.is_operator else principal.tenant),
            since=moment_of(asked["since"]) if "since" in asked else None,
            until=moment_of(asked["until"]) if "until" in asked else None,
        )
    except SettingsError as error:
        raise InvalidRequest(error.message, hint=error.hint) from error


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= MOST):
        raise InvalidRequest(
            f"limit must be 1 to {MOST}, found {text[:20]!r}", hint="the default is 100", param="limit"
        )
    return int(text)
