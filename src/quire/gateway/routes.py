"""POST /v1/routes/explain: which module would answer, and why, without asking it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from quire.gateway.body import read_fields
from quire.gateway.schemas import ExplainFields
from quire.router import Router

if TYPE_CHECKING:
    from quire.gateway.gateway import Gateway
    from quire.project import Project


async def explain_route(request: Request) -> Response:
    """The plan for a question. Raises NoRoute, ModuleUnknown, VersionUnknown, NoLiveVersion."""
    gateway: Gateway = request.app.state.gateway
    fields = await read_fields(request, ExplainFields, most_bytes=gateway.most_body_bytes)
    body = await asyncio.to_thread(_explain, gateway.project, fields.question, fields.quire.module)
    return JSONResponse(body)


def _explain(project: Project, question: str, module: str | None) -> dict[str, Any]:
    plan = Router(project.settings.modules).route(question, module=module)
    record = project.registry.resolve(f"{plan.module_id}@{plan.version}" if plan.version else plan.module_id)
    return {
        "object": "route",
        "module": record.module_id,
        "version": record.version,
        "digest": record.digest,
        "stage": plan.stage,
        "reason": plan.reason,
        "confidence": plan.confidence,
        "candidates": list(plan.candidates),
        "chain": [str(link.ref) for link in project.registry.chain(record)],
    }
