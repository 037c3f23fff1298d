"""`quire ls` and `quire show`: what is registered. Needs no model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from quire.cli.opening import open_catalogue
from quire.cli.options import JsonOption, Module, ProjectOption
from quire.cli.screen import Screen, facts, moment, short, size, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from quire.registry import HistoryEntry, Registry, VersionRecord

COLOURS = {"live": "green", "candidate": "yellow", "retired": "dim", "revoked": "red"}
HISTORY_SHOWN = 20


def ls(
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Every version, not only the newest of each.")
    ] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the modules: live version, scope, size."""
    screen = Screen(as_json=as_json)
    with open_catalogue(project) as catalogue:
        records = catalogue.registry.versions()
        declared = {spec.module_id for spec in catalogue.settings.modules}
    shown = records if everything else _leading(records)
    shown.sort(key=lambda record: record.module_id)
    made = table("module", "version", "state", "title", "parent", "scope", "tokens>", "size>", "compiled")
    for record in shown:
        made.add_row(
            escape(record.module_id),
            record.version + (" (pinned)" if record.pinned else ""),
            _standing(record),
            escape(record.title),
            str(record.parent or ""),
            str(record.scope),
            f"{record.token_count:,}",
            size(record.bytes),
            moment(record.created_at),
        )
    missing = sorted(declared - {record.module_id for record in records})
    notes = [f"[dim]not compiled yet: {', '.join(missing)} (quire build)[/dim]"] if missing else []
    screen.show(
        {"modules": [values(record) for record in shown], "not_compiled": missing}, *([made] if shown else []), *notes
    )
    if not shown and not missing:
        screen.note("no modules yet: declare some in quire.toml and run `quire build`")


def show(module: Module, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Show where a version comes from: sources, layout, model, numerics, files, history."""
    screen = Screen(as_json=as_json)
    with open_catalogue(project) as catalogue:
        record = resolve(catalogue.registry, module)
        chain = catalogue.registry.chain(record)
        history = catalogue.registry.history(record.module_id, HISTORY_SHOWN)
        others = catalogue.registry.versions(record.module_id)
        golden = golden_values(catalogue.registry, record)
    manifest = json.loads(record.manifest)
    details = {
        **values(record),
        "key": record.key,
        "chain": [str(link.ref) for link in chain],
        "model": manifest["model"],
        "tokenizer_fingerprint": record.tokenizer_fingerprint,
        "layout": manifest["layout"],
        "numerics": manifest["numerics"],
        "verification": record.verification,
        "golden": golden,
        "sources": [{"path": s.path, "digest": s.digest, "text_digest": s.text_digest} for s in record.sources],
        "files": manifest["files"],
        "versions": [{"version": v.version, "state": v.state, "created_at": v.created_at.isoformat()} for v in others],
        "history": [_entry(entry) for entry in history],
    }
    screen.show(details, *_sections(record, details, history))


def resolve(registry: Registry, module: str) -> VersionRecord:
    """``name@version``, or the live version of ``name``, or its newest where none is live.

    Raises:
        ModuleUnknown, VersionUnknown.
    """
    name, at, version = module.partition("@")
    if at:
        return registry.get(name, version)
    return _leading(registry.versions(name))[0]


def values(record: VersionRecord) -> dict[str, Any]:
    """A version as JSON values, for lists."""
    return {
        "module": record.module_id,
        "version": record.version,
        "digest": record.digest,
        "state": record.state,
        "title": record.title,
        "parent": str(record.parent) if record.parent else None,
        "tenant": record.tenant_id,
        "scope": str(record.scope),
        "tokens": record.token_count,
        "position_start": record.position_start,
        "bytes": record.bytes,
        "pinned": record.pinned,
        "created_at": record.created_at.isoformat(),
        "expires_at": record.expires_at.isoformat() if record.expires_at else None,
        "expired": record.expired,
        "stale": record.stale.as_json() if record.stale else None,
    }


def golden_values(registry: Registry, record: VersionRecord) -> dict[str, Any] | None:
    """What a version is tested with, and the last run of it; None: it declares no golden tests and was asked none."""
    suite, run = registry.golden.declared(record), registry.golden.newest(record)
    if suite is None and run is None:
        return None
    return {
        "suite": suite.checksum if suite else None,
        "questions": len(suite) if suite else 0,
        "run": run.as_json() if run else None,
    }


def _standing(record: VersionRecord) -> str:
    """The state, and what keeps a version from being taken at its word."""
    found = [name for name, is_so in (("stale", record.stale is not None), ("expired", record.expired)) if is_so]
    return f"[{COLOURS[record.state]}]{record.state}[/]" + "".join(f", [yellow]{name}[/]" for name in found)


def _leading(newest_first: list[VersionRecord]) -> list[VersionRecord]:
    """Of each module the live version, or else the newest."""
    leading: dict[str, VersionRecord] = {}
    for record in newest_first:
        if record.module_id not in leading or record.state == "live":
            leading[record.module_id] = record
    return list(leading.values())


def _entry(entry: HistoryEntry) -> dict[str, Any]:
    return {
        "at": entry.at.isoformat(),
        "actor": entry.actor,
        "action": entry.action,
        "version": entry.version,
        "from": entry.from_state,
        "to": entry.to_state,
        "reason": entry.reason,
    }


def _sections(record: VersionRecord, details: dict[str, Any], history: list[HistoryEntry]) -> list[RenderableType]:
    model, layout, numerics = details["model"], details["layout"], details["numerics"]
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(numerics["libraries"].items()))
    verified = record.verification
    sources = table("source", "digest of its text")
    for source in record.sources:
        sources.add_row(escape(source.path), short(source.text_digest))
    files = table("file", "size>", "digest")
    for file in details["files"]:
        files.add_row(file["name"], size(file["bytes"]), short(file["digest"]))
    changes = table("when", "who", "what", "version", "why")
    for entry in history:
        changes.add_row(moment(entry.at), escape(entry.actor), entry.action, entry.version, escape(entry.reason))
    overview = facts(
        {
            "module": record.ref,
            "title": record.title,
            "state": record.state + (", pinned" if record.pinned else ""),
            "digest": record.digest,
            "key": record.key,
            "chain": " > ".join(details["chain"]),
            "scope": f"{record.scope} (tenant {record.tenant_id})",
            "tokens": f"{record.token_count:,} from position {record.position_start:,}",
            "size": size(record.bytes),
            "model": f"{model['name']} {model['revision']} {short(model['fingerprint'])}",
            "layout": f"{layout['id']} version {layout['version']} {short(layout['checksum'])}",
            "numerics": f"{numerics['device']}, {numerics['threads']} threads, prefill chunk "
            f"{numerics['prefill_chunk']}, {libraries}",
            "verified": verified
            and f"{verified['method']} of {verified['tokens']} tokens, largest logit difference "
            f"{verified['largest_logit_difference']:.3g}",
            "golden tests": _golden(details["golden"]),
            "compiled": moment(record.created_at),
            "expires": moment(record.expires_at) if record.expires_at else "",
            "versions": ", ".join(f"{v['version']} {v['state']}" for v in details["versions"]),
        }
    )
    return [overview, "", sources, "", files, "", *_failures(details["golden"]), changes]


def _golden(golden: dict[str, Any] | None) -> str:
    if not golden:
        return ""
    if not golden["run"]:
        return f"{golden['questions']} questions, not asked yet"
    run = golden["run"]
    state = "green" if run["green"] else "red"
    return f"{state}: {run['questions'] - run['failed']} of {run['questions']} passed, {run['at'][:16]}Z by {run['by']}"


def _failures(golden: dict[str, Any] | None) -> list[RenderableType]:
    failed = [one for one in golden["run"]["verdicts"] if not one["passed"]] if golden and golden["run"] else []
    if not failed:
        return []
    made = table("golden question", "expected", "found", "")
    for one in failed:
        made.add_row(
            escape(one["question"]),
            escape("; ".join(one["unmet"])),
            escape(one["answer"]),
            "allowed" if one["forgiven"] else "",
        )
    return [made, ""]
