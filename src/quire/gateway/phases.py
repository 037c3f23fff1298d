"""A request as a trace tells it: gateway -> router -> restore -> queue, prefill and decode of each answer.

Names are OpenTelemetry's where it has them (https://github.com/open-telemetry/semantic-conventions-genai), and
`quire.*` where it has none. Nothing of what was asked or answered is in it, nor the caller's stop strings, the names of
sessions, or the path with the names in it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from quire.answering import Prepared, Told
from quire.telemetry import Attribute, Phase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quire.core import Sampling
    from quire.gateway.generation import Generation
    from quire.gateway.passage import Passage
    from quire.scheduler import Ticket

OPERATIONS = {"/v1/chat/completions": "chat", "/v1/completions": "text_completion"}


def of_passage(passage: Passage, method: str, route: str) -> Phase:
    """The whole of a request that has ended."""
    known: dict[str, Attribute] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": passage.status or 499,
        "quire.request_id": passage.call.request_id,
    }
    inner = (_of_generation(passage, passage.generation, OPERATIONS[route]),) if passage.generation else ()
    error = passage.error if passage.status >= 500 else ""
    return Phase(f"{method} {route}", passage.began, time.perf_counter(), known, error, inner)


def _of_generation(passage: Passage, generation: Generation, operation: str) -> Phase:
    usage, model, n = generation.usage, generation.model_name, generation.n
    known: dict[str, Attribute] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "quire",
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "gen_ai.usage.input_tokens": usage.prompt,
        "gen_ai.usage.cache_read.input_tokens": usage.cached,
        "gen_ai.usage.output_tokens": usage.completion,
        "gen_ai.response.finish_reasons": list(generation.reasons.values()),
    }
    if passage.answer_id:
        known["gen_ai.response.id"] = passage.answer_id
    if passage.streamed:
        known["gen_ai.request.stream"] = True
        if generation.first_token_seconds is not None:
            known["gen_ai.response.time_to_first_chunk"] = generation.first_token_seconds
    if n > 1:
        known["gen_ai.request.choice.count"] = n
    if generation.prepared:
        known |= _of_sampling(generation.prepared[0].question.sampling)
    inner = (*_of_prompts(passage, generation), *_of_answers(generation))
    return Phase(f"{operation} {model}", generation.began, generation.ended, known, passage.error, inner)


def _of_sampling(sampling: Sampling) -> dict[str, Attribute]:
    """What was asked for, where it is not the default."""
    asked: dict[str, Attribute] = {"gen_ai.request.temperature": sampling.temperature}
    for name, default in (("top_p", 1.0), ("top_k", 0), ("frequency_penalty", 0.0), ("presence_penalty", 0.0)):
        if (value := getattr(sampling, name)) != default:
            asked[f"gen_ai.request.{name}"] = value
    for name in ("max_tokens", "seed"):
        if (value := getattr(sampling, name)) is not None:
            asked[f"gen_ai.request.{name}"] = value
    return asked


def _of_prompts(passage: Passage, generation: Generation) -> Iterator[Phase]:
    """The way of each prompt to its module."""
    firsts = generation.prepared[:: generation.n]
    for i, (began, ended) in enumerate(generation.considered):
        first = firsts[i] if i < len(firsts) else None
        if first is None:  # it has not been found
            yield Phase("route", began, ended, error=passage.error)
            continue
        routed: dict[str, Attribute] = {"quire.stage": first.plan.stage, "quire.confidence": first.plan.confidence}
        if not isinstance(first, Prepared):
            yield Phase("route", began, ended, routed)
            continue
        lease, restored = first.lease, first.restored
        routed |= {"quire.module": first.module.module_id, "quire.version": first.module.version}
        yield Phase("route", began, lease.at - restored.seconds, routed)
        known: dict[str, Attribute] = {
            "quire.tier": restored.tier,
            "quire.restored_tokens": restored.tokens,
            "quire.restored_bytes": sum(record.bytes for record in lease.records),
        }
        yield Phase("restore", lease.at - restored.seconds, lease.at, known)


def _of_answers(generation: Generation) -> Iterator[Phase]:
    for index, ticket in enumerate(generation.tickets):
        if not isinstance(ticket, Told):
            yield from _of_ticket(ticket, index, generation.ended)


def _of_ticket(ticket: Ticket, index: int, now: float) -> Iterator[Phase]:
    """Its wait, its question, its answer; a phase that did not end ends with the request."""
    times, usage = ticket.times, ticket.usage
    ended = times.ended or now
    which: dict[str, Attribute] = {"quire.answer": index}
    yield Phase("queue", times.submitted, times.began or ended, which)
    if times.began is None:
        return
    reading: dict[str, Attribute] = {"quire.computed_tokens": usage.prompt - usage.cached} if usage else {}
    yield Phase("prefill", times.began, times.chose or ended, {**which, **reading})
    if times.chose is not None:
        known: dict[str, Attribute] = {
            **which,
            "gen_ai.usage.output_tokens": usage.completion if usage else 0,
            "quire.steps": times.steps,
            "quire.widest_step": times.widest,
            "quire.sent_back": times.sent_back,
        }
        yield Phase("decode", times.chose, max(ended, times.chose), known)
