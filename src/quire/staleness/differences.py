"""By which triggers the inputs of two versions of a module differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quire.artifact import canonical, digest_bytes
from quire.registry import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from quire.registry import Trigger

# What a person calls an input, and the trigger that a change of it is. Sources and parent have texts of their own.
NAMED: dict[str, tuple[str, Trigger]] = {
    "title": ("title", "title"),
    "tenant_id": ("tenant", "access"),
    "acl": ("acl", "access"),
    "layout": ("layout", "layout"),
    "model": ("model", "model"),
    "tokenizer": ("tokenizer", "tokenizer"),
    "dtype": ("dtype", "model"),
    "codec": ("codec", "build"),
    "prefill_chunk": ("prefill chunk", "build"),
    "shard_bytes": ("shard size", "build"),
    "format_version": ("artifact format", "build"),
}


def compare_inputs(found: Mapping[str, Any], expected: Mapping[str, Any], parent: str | None) -> tuple[Reason, ...]:
    """Why a version made of `found` is not what `expected` would make, `parent` the name of the parent it would have.

    Empty where both make the same.
    """
    reasons = _source_changes(found.get("sources", []), expected["sources"])
    before, now = found.get("parent"), expected["parent"]
    if before != now:
        text = f"parent {parent} changed" if parent else "it has no parent any more"
        reasons.append(Reason("parent", text, parent or "", now or "none", before or "none"))
    for name, (called, trigger) in NAMED.items():
        if found.get(name) != expected[name]:
            values = _shown(name, expected[name]), _shown(name, found.get(name))
            reasons.append(Reason(trigger, f"{called} changed", called, *values))
    return tuple(reasons)


def _source_changes(old: Sequence[Mapping[str, str]], new: Sequence[Mapping[str, str]]) -> list[Reason]:
    before, after = ({s["path"]: s["text_digest"] for s in entries} for entries in (old, new))
    changed = [p for p in after if p in before and before[p] != after[p]]
    reasons = [Reason("source", f"source changed: {p}", p, after[p], before[p]) for p in changed]
    reasons += [Reason("source", f"source added: {p}", p, after[p], "none") for p in after if p not in before]
    reasons += [Reason("source", f"source removed: {p}", p, "none", before[p]) for p in before if p not in after]
    if not reasons and list(old) != list(new):
        reasons.append(Reason("source", "sources reordered", "", " ".join(after), " ".join(before)))
    return reasons


def _shown(name: str, value: Any) -> str:
    if name == "layout" and isinstance(value, dict):
        return f"{value.get('id')} {value.get('version')} {digest_bytes(canonical(value))}"
    return "none" if value is None else str(value)
