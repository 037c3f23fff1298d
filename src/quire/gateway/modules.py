"""GET /v1/modules and /v1/modules/{name}: what can answer, as the registry has it now."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from quire.access import readable_scopes
from quire.answering import find_chain, stale_values
from quire.errors import ModuleUnknown
from quire.gateway.authentication import principal_of
from quire.gateway.schemas import MODULE

if TYPE_CHECKING:
    from quire.access import Principal
    from quire.gateway.gateway import Gateway
    from quire.project import Project
    from quire.registry import VersionRecord


def check_name(name: str) -> None:
    """Raises ModuleUnknown for what cannot be ``name`` or ``name@version``."""
    if not re.fullmatch(MODULE, name):
        raise ModuleUnknown(
            f"{name[:64]!r} is not the name of a module", hint="GET /v1/modules lists the names; name@version works too"
        )


async def list_modules(request: Request) -> Response:
    """The live version of every module that the caller may ask."""
    gateway: Gateway = request.app.state.gateway
    bodies = await asyncio.to_thread(_live_modules, gateway.project, principal_of(request))
    return JSONResponse({"object": "list", "data": bodies})


async def get_module(request: Request) -> Response:
    """One module: its live version, or the one named with ``name@version``, and the chain it stands on."""
    gateway: Gateway = request.app.state.gateway
    name = request.path_params["name"]
    check_name(name)
    return JSONResponse(await asyncio.to_thread(_one_module, gateway.project, principal_of(request), name))


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
        "stale": stale_values(record.stale) if record.stale else None,
    }


def _live_modules(project: Project, principal: Principal) -> list[dict[str, Any]]:
    return [module_body(record) for record in project.known.within(readable_scopes(principal)).all_live()]


def _one_module(project: Project, principal: Principal, name: str) -> dict[str, Any]:
    chain = find_chain(project.known, project.access.policy, principal, name)
    versions = project.known.within(readable_scopes(principal)).versions(chain[-1].module_id)
    return {
        **module_body(chain[-1]),
        "chain": [str(link.ref) for link in chain],
        "versions": [{"version": r.version, "state": r.state} for r in versions],
        "golden": _golden(project, chain[-1]),
    }


def _golden(project: Project, record: VersionRecord) -> dict[str, Any] | None:
    """What the version declares to be tested with, and the last run; None: it declares nothing."""
    suite = project.known.golden.declared(record)
    if suite is None:
        return None
    run = project.known.golden.newest(record, suite)
    return {
        "suite": suite.checksum,
        "questions": len(suite),
        "state": "not run" if run is None else "green" if run.green else "red",
        "at": run.at.isoformat() if run else None,
        "verdicts": [
            {
                "question": one.question,
                "answer": one.answer,
                "passed": one.passed,
                "allowed": one.forgiven,
                "unmet": list(one.unmet),
                "tags": list(one.tags),
            }
            for one in (run.verdicts if run else ())
        ],
    }
