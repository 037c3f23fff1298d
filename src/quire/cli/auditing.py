"""`quire audit`: who did what, when and why; whether that record is whole; taking it elsewhere."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from quire.cli.opening import open_catalogue
from quire.cli.options import JsonOption, ProjectOption, complete_module
from quire.cli.screen import Screen, table
from quire.errors import AuditBroken, StoreError
from quire.registry import KINDS, AuditFilter, Head, actor, moment_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typer._click.core import Context

SHOWN_FINDINGS = 20


class _ListsByDefault(typer.core.TyperGroup):
    """`quire audit --kind access` is `quire audit ls --kind access`."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in {"-h", "--help"}):
            args = ["ls", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(help="The audit log: who did what, when and why.", cls=_ListsByDefault)


def _complete_kind(incomplete: str) -> list[str]:
    return [kind for kind in KINDS if kind.startswith(incomplete)]


Since = Annotated[
    str | None,
    typer.Option("--since", metavar="WHEN", help="From then on: `2h`, `7d`, or a date.", show_default=False),
]
Until = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Before then.", show_default=False)]
Kind = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="Records of this kind, such as `access.denied`, or of a group, such as `module`. Repeatable.",
        autocompletion=_complete_kind,
        show_default=False,
    ),
]
Who = Annotated[str | None, typer.Option("--who", help="What this principal or user did.", show_default=False)]
OfModule = Annotated[
    str | None,
    typer.Option(
        "--module", "-m", metavar="MODULE", help="What concerns it.", autocompletion=complete_module, show_default=False
    ),
]


@app.command("ls")
def ls(
    since: Since = None,
    until: Until = None,
    kind: Kind = None,
    who: Who = None,
    module: OfModule = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The newest so many.")] = 50,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """List records, newest first. `quire audit` alone does this too."""
    screen = Screen(as_json=as_json)
    wanted = _filter(since, until, kind, who, module)
    with open_catalogue(project) as catalogue:
        records = catalogue.registry.audit.newest(wanted, limit)
    rows = table("record>", "when", "who", "kind", "what", "why")
    for record in records:
        when = f"{record.at[:10]} {record.at[11:19]}Z"
        rows.add_row(str(record.sequence), when, *map(escape, (record.who, record.kind, record.what, record.why)))
    screen.show({"records": [record.as_json() for record in records]}, *([rows] if records else []))
    if not records:
        screen.note("no such records")


@app.command("export")
def export(
    since: Since = None,
    until: Until = None,
    kind: Kind = None,
    who: Who = None,
    module: OfModule = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Default: standard output.", show_default=False)
    ] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write records as JSON lines, oldest first; with `--json` as one list.

    Without its `hash`, a record in RFC 8785 form has that BLAKE3 hash.
    """
    wanted = _filter(since, until, kind, who, module)
    with open_catalogue(project) as catalogue, closing(catalogue.registry.audit.each(wanted)) as records:
        pieces = _written((json.dumps(record.as_json(), ensure_ascii=False) for record in records), as_list=as_json)
        if out is None:
            sys.stdout.writelines(pieces)
            return
        _write(out, pieces)
    screen = Screen(as_json=as_json)
    screen.show({"written": str(out)})
    screen.note(f"written to {out}")


def _write(out: Path, pieces: Iterator[str]) -> None:
    """All of it or nothing: an earlier export there is evidence, and stays if this one comes to nothing.

    Raises StoreError.
    """
    if out.exists() and not out.is_file():  # a pipe or a terminal has no earlier content, and must not be replaced
        part = out
    else:
        out = out.resolve()  # through a link, to what it names
        part = out.with_name(f"{out.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.writelines(pieces)
            file.flush()
            if part != out:
                os.fsync(file.fileno())
        if part != out:
            part.replace(out)
    except OSError as error:
        raise StoreError.from_os(error, out) from error
    finally:
        if part != out:
            part.unlink(missing_ok=True)


def _written(records: Iterable[str], *, as_list: bool) -> Iterator[str]:
    if not as_list:
        yield from (f"{record}\n" for record in records)
        return
    before = "[\n"
    for record in records:
        yield before + record
        before = ",\n"
    yield "\n]\n" if before == ",\n" else "[]\n"


@app.command("verify")
def verify(
    expect: Annotated[
        str | None,
        typer.Option("--expect", metavar="HEAD", help="A head that was kept somewhere else.", show_default=False),
    ] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find every record that was edited, removed, inserted or moved, and a tail that was cut off. Exits with 8 then.

    Prints the head of the log. Keep it where whoever can write to the registry cannot, and give it to `--expect`: that
    alone finds a log that was written anew from its beginning, together with the head beside the registry.
    """
    screen = Screen(as_json=as_json)
    expected = Head.parse(expect) if expect else None
    with open_catalogue(project) as catalogue:
        verdict = catalogue.registry.audit.verify(expected)
    found = [{"subject": finding.subject, "problem": finding.problem} for finding in verdict.findings]
    rows = table("where", "what was found")
    for finding in verdict.findings[:SHOWN_FINDINGS]:
        rows.add_row(escape(finding.subject), escape(finding.problem))
    screen.show(
        {
            "records": verdict.head.records,
            "head": str(verdict.head),
            "kept_head": str(verdict.kept) if verdict.kept else None,
            "findings": found,
        },
        *([rows] if found else []),
        f"{verdict.head.records:,} records, {f'{len(found)} problems' if found else 'whole'}; head {verdict.head}",
    )
    if not verdict.kept and not expected:
        screen.note("held against no head that was kept: this machine has written nothing to this registry yet")
    if found:
        raise AuditBroken(
            f"the audit log was changed: {len(found)} problems",
            hint="keep a copy of the registry as it is and find out who could write to it; see docs/audit.md",
        )


@app.command("anchor")
def anchor(
    reason: Annotated[str, typer.Option("--reason", help="Why, for the log.")],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep the head of the log as it is now, whatever was kept: after a backup was restored. This is recorded."""
    with open_catalogue(project) as catalogue:
        head = catalogue.registry.audit.anchor(who=actor(), why=reason)
    said = f"the kept head is {head}" if head else "no head is kept beside this registry"
    Screen(as_json=as_json).show({"head": str(head) if head else None}, said)


def _filter(
    since: str | None, until: str | None, kinds: list[str] | None, who: str | None, module: str | None
) -> AuditFilter:
    return AuditFilter(
        kinds=tuple(kinds or ()),
        who=who,
        module=module,
        since=moment_of(since) if since else None,
        until=moment_of(until) if until else None,
    )
