"""What the server answers: every path, by what, and what goes in and comes out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from quire.gateway import (
    admin_audit,
    admin_canaries,
    admin_keys,
    admin_modules,
    chat,
    completions,
    health,
    models,
    modules,
    openapi,
    routes,
)
from quire.gateway.schemas import (
    CanaryFields,
    ChangeFields,
    ChatFields,
    CompletionFields,
    ExplainFields,
    KeyFields,
    ReasonFields,
)


class Endpoint(NamedTuple):
    """`takes`: the fields of the body. `gives`: the schema of the response, by its name in `response_schemas`.

    `asked`: parameters of the query, which may all be left out, and the schema of each.
    """

    method: str
    path: str
    answer: Callable[[Request], Awaitable[Response]]
    gives: str
    takes: type[BaseModel] | None = None
    status: int = 200
    streams: bool = False
    asked: Mapping[str, dict[str, Any]] = MappingProxyType({})


ENDPOINTS = (
    Endpoint("POST", "/v1/chat/completions", chat.chat_completions, "ChatCompletion", ChatFields, streams=True),
    Endpoint("POST", "/v1/completions", completions.completions, "Completion", CompletionFields, streams=True),
    Endpoint("GET", "/v1/models", models.list_models, "ModelList"),
    Endpoint("GET", "/v1/models/{model:path}", models.get_model, "Model"),
    Endpoint("GET", "/v1/modules", modules.list_modules, "ModuleList"),
    Endpoint("GET", "/v1/modules/{name}", modules.get_module, "ModuleDetails"),
    Endpoint("POST", "/v1/routes/explain", routes.explain_route, "Route", ExplainFields),
    Endpoint("GET", "/v1/whoami", admin_keys.whoami, "Principal"),
    Endpoint("GET", "/v1/admin/keys", admin_keys.list_keys, "KeyList"),
    Endpoint("POST", "/v1/admin/keys", admin_keys.create_key, "NewKey", KeyFields, status=201),
    Endpoint("GET", "/v1/admin/keys/{key_id}", admin_keys.get_key, "Key"),
    Endpoint("POST", "/v1/admin/keys/{key_id}/revoke", admin_keys.revoke_key, "Key", ReasonFields),
    Endpoint("GET", "/v1/admin/audit", admin_audit.list_records, "AuditList", asked=admin_audit.PARAMETERS),
    Endpoint("POST", "/v1/admin/modules/{name}/publish", admin_modules.publish_module, "Module", ChangeFields),
    Endpoint("POST", "/v1/admin/modules/{name}/retire", admin_modules.retire_module, "Module", ReasonFields),
    Endpoint("POST", "/v1/admin/modules/{name}/rollback", admin_modules.rollback_module, "Module", ChangeFields),
    Endpoint("POST", "/v1/admin/modules/{name}/revoke", admin_modules.revoke_module, "Module", ChangeFields),
    Endpoint("GET", "/v1/admin/modules/{name}/canary", admin_canaries.get_canary, "Canary"),
    Endpoint(
        "POST", "/v1/admin/modules/{name}/canary", admin_canaries.start_canary, "Canary", CanaryFields, status=201
    ),
    Endpoint("POST", "/v1/admin/modules/{name}/canary/stop", admin_canaries.stop_canary, "Canary", ReasonFields),
    Endpoint("GET", "/metrics", health.metrics, "Metrics"),
)
# For whoever asks how to ask, or whether the server is up: they say nothing of what it holds.
OPEN_ENDPOINTS = (
    Endpoint("GET", "/v1/openapi.json", openapi.get_openapi, "OpenAPI"),
    Endpoint("GET", "/healthz", health.healthz, "Health"),
    Endpoint("GET", "/readyz", health.readyz, "Readiness"),
)
