"""POST /v1/routes/explain: which module would answer, and why, without asking it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from quire.answering import Question
from quire.gateway.authentication import principal_of
from quire.gateway.body import read_fields
from quire.gateway.schemas import ExplainFields
from quire.router import plan_values

if TYPE_CHECKING:
    from quire.access import Principal
    from quire.gateway.gateway import Gateway


async def explain_route(request: Request) -> Response:
    """The plan for a question, and the version it leads to. Raises as `Answerer.route`."""
    gateway: Gateway = request.app.state.gateway
    fields = await read_fields(request, ExplainFields, most_bytes=gateway.most_body_bytes)
    return JSONResponse(await asyncio.to_thread(_explain, gateway, principal_of(request), fields))


def _explain(gateway: Gateway, principal: Principal, fields: ExplainFields) -> dict[str, Any]:
    question = Question(prompt=fields.question, module=fields.quire.module, hints=fields.quire.hints)
    plan, chain = gateway.runtime.answerer.route(question, principal)
    return {
        "object": "route",
        **plan_values(plan),
        # The digest of the whole table changes with what is hidden, too.
        "table": plan.table if principal.is_operator else None,
        "version": chain[-1].version if chain else None,
        "digest": chain[-1].digest if chain else None,
        "chain": [str(link.ref) for link in chain],
    }
