"""What responses hold, as JSON Schema. docs/http.md says it in words."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
TEXTS: Schema = {"type": "array", "items": TEXT}
MOMENT: Schema = {"type": "string", "format": "date-time"}


def optional(schema: Schema) -> Schema:
    """`schema` or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def record(kind: str | None = None, /, **fields: Schema) -> Schema:
    """An object with exactly these fields; `kind`: what its field `object` says."""
    named = {"object": {"const": kind}} if kind else {}
    properties = {**named, **fields}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def listing(name: str) -> Schema:
    return record("list", data={"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}})


STALE = record(since=MOMENT, triggers=TEXTS, then={"enum": ["serve", "fallback", "refuse"]}, warning=TEXT)
MODULE: dict[str, Schema] = {
    **dict.fromkeys(("module", "version", "digest", "title", "scope"), TEXT),
    "state": {"enum": ["candidate", "live", "retired", "revoked"]},
    "parent": optional(TEXT),
    **dict.fromkeys(("tokens", "position_start", "bytes"), COUNT),
    "created_at": MOMENT,
    "expires_at": optional(MOMENT),
    "stale": optional(STALE),
}
YES_OR_NO: Schema = {"type": "boolean"}
GOLDEN = record(
    suite=TEXT,
    questions=COUNT,
    state={"enum": ["not run", "green", "red"]},
    at=optional(MOMENT),
    verdicts={
        "type": "array",
        "items": record(question=TEXT, answer=TEXT, passed=YES_OR_NO, allowed=YES_OR_NO, unmet=TEXTS, tags=TEXTS),
    },
)
_COUNTED = ("requests", "answers", "errors", "refusals", "left", "fallbacks", "cut", "tokens")
_TIMED = ("first_token_seconds", "first_token_p95_seconds", "answer_seconds", "answer_p95_seconds", "tokens_per_answer")
ARM = record(**dict.fromkeys(_COUNTED, COUNT), **dict.fromkeys(_TIMED, optional(NUMBER)))
CANARY: dict[str, Schema] = {
    **dict.fromkeys(("module", "version", "against", "started_by", "reason"), TEXT),
    "percent": COUNT,
    "shadow": YES_OR_NO,
    "started_at": MOMENT,
    "ended_at": optional(MOMENT),
    "ended": optional(TEXT),
    "arms": record(live=ARM, candidate=ARM, shadow=ARM),
    **dict.fromkeys(("compared", "identical", "dropped"), COUNT),
    "overlap": optional(NUMBER),
}
KEY: dict[str, Schema] = {
    **dict.fromkeys(("id", "title", "tenant", "created_by"), TEXT),
    "state": {"enum": ["active", "expired", "revoked"]},
    "user": optional(TEXT),
    "workspaces": TEXTS,
    "roles": TEXTS,
    "created_at": MOMENT,
    **dict.fromkeys(("expires_at", "revoked_at", "last_used_at"), optional(MOMENT)),
}
# By the check's name.
CHECKED: Schema = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [
            record(ok={"const": True}),
            record(ok={"const": True}, restart_needed={"const": True}),
            record(ok={"const": True}, last_known_seconds={"type": "number"}, missing={"type": "boolean"}),
            record(ok={"const": False}, code=TEXT, reason=TEXT),
        ]
    },
}
AUDIT: dict[str, Schema] = {
    "sequence": optional(COUNT),
    "at": MOMENT,
    **dict.fromkeys(("kind", "who", "tenant", "what"), TEXT),
    "module": optional(TEXT),
    **dict.fromkeys(("why", "digest"), TEXT),
    "details": {"type": "object"},
    "generation": optional(COUNT),
    **dict.fromkeys(("previous", "hash"), optional(TEXT)),
}
USAGE = record(
    **dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), COUNT),
    prompt_tokens_details=record(cached_tokens=COUNT),
)
PROVENANCE: dict[str, Schema] = {
    "module": optional(TEXT),
    "version": optional(TEXT),
    "digest": optional(TEXT),
    "stage": TEXT,
    "reason": TEXT,
    "confidence": NUMBER,
    "tier": optional({"enum": ["warm", "cold", "remote"]}),
    "restored_tokens": COUNT,
    "restore_ms": NUMBER,
    "arm": optional({"enum": ["live", "candidate"]}),
    "stale": optional(STALE),
}


def _answer(kind: str) -> Schema:
    choice = {"type": "object", "required": ["index", "finish_reason"], "properties": {"index": COUNT}}
    choices = {"type": "array", "items": choice, "minItems": 1}
    quire = record(**PROVENANCE, repetition={"type": "array", "items": COUNT})
    return record(kind, id=TEXT, created=COUNT, model=TEXT, choices=choices, usage=USAGE, quire=quire)


RESPONSES: dict[str, Schema] = {
    "ChatCompletion": _answer("chat.completion"),
    "Completion": _answer("text_completion"),
    "Model": record("model", id=TEXT, created=COUNT, owned_by=TEXT),
    "ModelList": listing("Model"),
    "Module": record("module", **MODULE),
    "ModuleList": listing("Module"),
    "ModuleDetails": record(
        "module",
        **MODULE,
        chain=TEXTS,
        versions={"type": "array", "items": record(version=TEXT, state=MODULE["state"])},
        golden=optional(GOLDEN),
    ),
    "Canary": record("canary", **CANARY),
    "Route": record(
        "route",
        **dict.fromkeys(("module", "version", "digest", "table"), optional(TEXT)),
        stage=TEXT,
        reason=TEXT,
        confidence=NUMBER,
        candidates={"type": "array", "items": record(module=TEXT, stage=TEXT, score=NUMBER, reason=TEXT)},
        passed=TEXTS,
        chain=TEXTS,
    ),
    "Principal": record(
        "principal",
        tenant=TEXT,
        user=optional(TEXT),
        workspaces=TEXTS,
        roles=TEXTS,
        key=optional(TEXT),
        reads=TEXTS,
    ),
    "Key": record("key", **KEY),
    "KeyList": listing("Key"),
    "AuditRecord": record("audit.record", **AUDIT),
    "AuditList": record("list", data=listing("AuditRecord")["properties"]["data"], has_more={"type": "boolean"}),
    "NewKey": record("key", **KEY, key=TEXT),
    "Metrics": TEXT,
    "OpenAPI": {"type": "object", "required": ["openapi", "paths"]},
    "Health": record(status={"const": "ok"}),
    "Readiness": record(status={"const": "ready"}, checks=CHECKED),
    "Error": record(error=record(message=TEXT, type=TEXT, param=optional(TEXT), code=TEXT)),
    "NotReady": record(status={"const": "not ready"}, code=TEXT, checks=CHECKED),
}
