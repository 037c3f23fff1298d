"""Every figure of /metrics, once: docs/metrics.md is written from this table.

No label names a tenant, a user, a module or anything else that a caller may not see or has made up: whoever may read
the figures may not read everything, and figures go to other systems.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
REQUEST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ANSWER = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
RESTORE = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)


@dataclass(frozen=True, slots=True)
class Figure:
    """`name` is what the page and a query say. `buckets`: upper bounds of a histogram that we fill ourselves."""

    group: str
    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_HTTP = "Requests"
_ANSWERS = "Answers"
_ENGINE = "The engine, now and since the start"
_CANARY = "Canaries, all modules together"
_POOL = "Modules in memory"
_REGISTRY = "The registry"
_AUDIT = "The audit log"

FIGURES = (
    Figure(
        _HTTP,
        "quire_build_info",
        "gauge",
        "always 1: what runs here",
        ("version", "python", "torch", "model", "device", "dtype"),
    ),
    Figure(
        _HTTP,
        "quire_http_requests_total",
        "counter",
        "answered requests; 499 where the caller did not wait",
        ("route", "status"),
    ),
    Figure(
        _HTTP,
        "quire_http_request_seconds",
        "histogram",
        "from a request's arrival to the end of its response",
        ("route",),
        ANSWER,
    ),
    Figure(_HTTP, "quire_errors_total", "counter", "errors told to callers, those in streams included", ("code",)),
    Figure(
        _HTTP,
        "quire_limit_refusals_total",
        "counter",
        "requests refused by a limit of their tenant, or by the `engine`: too many waited, or modules filled the GPU",
        ("limit",),
    ),
    Figure(_ANSWERS, "quire_routes_total", "counter", "routed questions, by the stage that decided", ("stage",)),
    Figure(
        _ANSWERS,
        "quire_tokens_total",
        "counter",
        "tokens: `prompt` (all of it), `cached` (of the prompt), `completion`",
        ("kind",),
    ),
    Figure(
        _ANSWERS, "quire_first_token_seconds", "histogram", "from a request's arrival to its first token", (), REQUEST
    ),
    Figure(_ANSWERS, "quire_inter_token_seconds", "histogram", "between two tokens of an answer", (), QUICK),
    Figure(
        _ANSWERS, "quire_answer_seconds", "histogram", "from a request's arrival to the end of its answers", (), ANSWER
    ),
    Figure(
        _ANSWERS,
        "quire_restore_seconds",
        "histogram",
        "making a chain usable, by where it was: `warm` (open), `cold` (on this machine), `remote`",
        ("tier",),
        RESTORE,
    ),
    Figure(
        _ANSWERS, "quire_restored_bytes_total", "counter", "bytes of KV that did not have to be computed", ("tier",)
    ),
    Figure(_ANSWERS, "quire_queue_seconds", "histogram", "an answer's wait for its first step", (), REQUEST),
    Figure(
        _ANSWERS,
        "quire_prefill_seconds",
        "histogram",
        "an answer's question in the engine: from its first step to its first token",
        (),
        REQUEST,
    ),
    Figure(_ENGINE, "quire_answers_running", "gauge", "answers being computed"),
    Figure(_ENGINE, "quire_answers_waiting", "gauge", "answers waiting for room"),
    Figure(_ENGINE, "quire_batch_requests", "histogram", "requests of a step"),
    Figure(_ENGINE, "quire_step_tokens_total", "counter", "tokens that steps added to questions and answers"),
    Figure(
        _ENGINE,
        "quire_step_seconds_total",
        "counter",
        "time in steps: its rate is the share of time in which the engine computes",
    ),
    Figure(_ENGINE, "quire_preemptions_total", "counter", "answers that gave their place away for a while"),
    Figure(_ENGINE, "quire_room_tokens", "gauge", "room for the KV of questions, answers and idle conversations"),
    Figure(_ENGINE, "quire_room_used_tokens", "gauge", "how much of it is taken"),
    Figure(_ENGINE, "quire_sessions", "gauge", "idle conversations whose KV is kept"),
    Figure(_ENGINE, "quire_session_bytes", "gauge", "bytes of that KV"),
    Figure(
        _CANARY,
        "quire_canary_requests_total",
        "counter",
        "requests in canaries, by who answered (`live`, `candidate`, `shadow`) and what came of them: `answers`, "
        "`errors`, `refusals`, `left` (the caller did not wait)",
        ("arm", "result"),
    ),
    Figure(
        _CANARY,
        "quire_canary_fallbacks_total",
        "counter",
        "of the errors: the candidate could not be restored, and the live version answered",
        ("arm",),
    ),
    Figure(_CANARY, "quire_canary_tokens_total", "counter", "tokens of answers", ("arm",)),
    Figure(
        _CANARY, "quire_canary_first_token_seconds", "histogram", "from the start to the first token", ("arm",), REQUEST
    ),
    Figure(_CANARY, "quire_canary_answer_seconds", "histogram", "from the start to the end", ("arm",), ANSWER),
    Figure(
        _CANARY,
        "quire_canary_compared_total",
        "counter",
        "shadows: answers that are `identical` to those of the live version, or `different`",
        ("answer",),
    ),
    Figure(_POOL, "quire_pool_modules", "gauge", "open modules"),
    Figure(_POOL, "quire_pool_bytes", "gauge", "their bytes"),
    Figure(_POOL, "quire_pool_leases", "gauge", "modules leased to answers, each lease counted"),
    Figure(_POOL, "quire_pool_evictions_total", "counter", "modules closed to make room"),
    Figure(
        _POOL,
        "quire_damaged_copies_total",
        "counter",
        "damaged copies found when a module was opened: `replaced` from the object store, or `refused`; or `changed` "
        "while it was open",
        ("result",),
    ),
    Figure(_POOL, "quire_device_bytes", "gauge", "bytes of modules on the GPU, 0 without one"),
    Figure(_POOL, "quire_device_restores_total", "counter", "modules brought to the GPU"),
    Figure(
        _REGISTRY,
        "quire_registry_up",
        "gauge",
        "1 unless the registry cannot be read, or has not answered for 2 s; then its counts are those of before",
    ),
    Figure(
        _REGISTRY,
        "quire_registry_counted_seconds",
        "gauge",
        "age of the counts below: some milliseconds, or longer while the registry does not answer",
    ),
    Figure(
        _REGISTRY,
        "quire_registry_applied_generation",
        "gauge",
        "changes that this server answers by; less than `quire_registry_generation` while it is behind",
    ),
    Figure(_REGISTRY, "quire_registry_seen_seconds", "gauge", "since this server last saw whether something changed"),
    Figure(
        _REGISTRY,
        "quire_registry_generation",
        "gauge",
        "changes so far: the same for all servers",
    ),
    Figure(_REGISTRY, "quire_module_versions", "gauge", "versions, by state", ("state",)),
    Figure(_REGISTRY, "quire_modules_pinned", "gauge", "versions protected from garbage collection"),
    Figure(_REGISTRY, "quire_modules_stale", "gauge", "live modules that are stale, by trigger", ("trigger",)),
    Figure(
        _REGISTRY,
        "quire_modules_built_elsewhere",
        "gauge",
        "live modules that were not built from this server's checkout, so that it does not report on them; absent "
        "where `server.watch_seconds` is 0",
    ),
    Figure(_REGISTRY, "quire_modules_expired", "gauge", "live modules whose time is over"),
    Figure(
        _REGISTRY,
        "quire_modules_for_another_model",
        "gauge",
        "modules whose live version is for another model than this server runs, which must be restarted; until then "
        "`continued` from the version before, or `refused`",
        ("answer",),
    ),
    Figure(
        _REGISTRY, "quire_changes_total", "counter", "changes in the audit log, such as `module.publish`", ("kind",)
    ),
    Figure(_REGISTRY, "quire_golden_runs_total", "counter", "runs of golden tests: `green` or `failed`", ("result",)),
    Figure(_AUDIT, "quire_audit_waiting", "gauge", "audit records waiting to be written"),
    Figure(_AUDIT, "quire_audit_written_total", "counter", "audit records written since the start, of those that wait"),
    Figure(
        _AUDIT, "quire_audit_lost_total", "counter", "audit records that could not be kept; the log says of which kinds"
    ),
)
BY_NAME = {figure.name: figure for figure in FIGURES}


def page() -> str:
    """docs/metrics.md."""
    parts = [
        "# Metrics",
        "<!-- Written by `make docs` from src/quire/gateway/figures.py. -->",
        "`GET /metrics` gives these figures in Prometheus' text format to whoever has the role monitor or operator. No "
        "label names a tenant, a user or a module. Times are in seconds. [operating.md](operating.md#figures-to-watch) "
        "says which of them to watch.",
    ]
    for group in dict.fromkeys(figure.group for figure in FIGURES):
        rows = [_row(figure) for figure in FIGURES if figure.group == group]
        parts += [f"## {group}", "\n".join(["| name | kind | labels | what it is |", "|---|---|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def _row(figure: Figure) -> str:
    labels = ", ".join(f"`{label}`" for label in figure.labels)
    return f"| `{figure.name}` | {figure.kind} | {labels} | {figure.help} |"
