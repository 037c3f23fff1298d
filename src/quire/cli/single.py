"""`quire compile`: one document, or its parts, without a project file."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quire.cli.building import BuildBar, plan_table, plan_values, report_values, speed_for, told
from quire.cli.golden import check_all_live
from quire.cli.opening import silence_libraries
from quire.cli.options import JsonOption
from quire.cli.screen import Screen, facts, short, size
from quire.cli.speed import remember_speed
from quire.core import ModuleSpec, Scope
from quire.errors import InvalidSetting
from quire.registry import actor
from quire.settings import BY_NAME, NAME, Settings, load_settings, parse_scope

if TYPE_CHECKING:
    from quire.project import Project


class Split(StrEnum):
    """Where a document may be cut."""

    headings = "headings"


def compile_one(
    source: Annotated[
        list[str], typer.Option("--source", metavar="PATH", help="File, directory or pattern. Repeatable.")
    ],
    model: Annotated[
        str, typer.Option("--model", metavar="M", help="The built-in model, a directory, a .gguf file, a Hub name.")
    ] = str(BY_NAME["model.path"].default),
    layout: Annotated[
        Path | None,
        typer.Option("--layout", metavar="FILE", help="Default: the model's chat template.", show_default=False),
    ] = None,
    acl: Annotated[
        str,
        typer.Option("--acl", metavar="KIND[:OWNER][:MODULE]", help="E.g. public:faq or tenant:acme:billing."),
    ] = "public",
    out: Annotated[
        str, typer.Option("--out", metavar="DIR|URL", help="Store and registry; made if there are none.")
    ] = str(BY_NAME["store.path"].default),
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="MODULE", help="Default: that of --acl, else the first source's.", show_default=False
        ),
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Default: the name.", show_default=False)] = None,
    parent: Annotated[
        str | None,
        typer.Option("--parent", metavar="MODULE[@V]", help="A module in --out to compile behind.", show_default=False),
    ] = None,
    split: Annotated[
        Split | None,
        typer.Option(
            "--split",
            metavar="headings",
            help="Make several modules of a document that is too long.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Cores to use.", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compile one module without a project file, and make it live in the store at --out."""
    screen = Screen(as_json=as_json)
    scope, called = parse_acl(acl)
    tenant = scope.owner.partition("/")[0] or str(BY_NAME["project.tenant"].default)
    module_id = module_name(name, called, source)
    spec = ModuleSpec(module_id, tuple(source), parent, title or module_id, tenant, scope)
    settings = settings_for(model, layout, out, threads)
    with screen.waiting("loading PyTorch and transformers"):
        silence_libraries()
        from quire.project import Project

    with Project(settings, say=screen.note) as project:
        _compile(project, spec, split is not None, dry_run, screen)


def _compile(project: Project, spec: ModuleSpec, split: bool, dry_run: bool, screen: Screen) -> None:
    from quire.compiler import build_lock, plan_standalone, run_build

    with build_lock(project.settings.state):
        project.store.sweep()
        with screen.waiting("reading sources"):
            plans = plan_standalone(
                project.settings, spec, project.source, project.layout, project.registry, project.store, split=split
            )
        if dry_run:
            speed = speed_for(project, plans, screen)
            screen.show({"plan": plan_values(project, plans, speed)}, plan_table(project, plans, speed))
            return
        with BuildBar(plans, screen) as bar:
            report = run_build(
                plans,
                lambda: project.model,
                project.registry,
                project.store,
                bar,
                actor=actor(),
                ask=project.test,
            )
        if report.compiled:
            remember_speed(project, bar.tokens / bar.seconds)
    made = [plan.record for plan in plans if plan.record]
    screen.show(
        {
            "out": str(project.settings.state),
            "plan": plan_values(project, plans, None),
            **report_values(report, bar.seconds if report.compiled else 0.0),
        },
        plan_table(project, plans, None),
        told(report, bar.seconds if report.compiled else 0.0),
        *(
            facts(
                {
                    "module": record.ref,
                    "digest": short(record.digest),
                    "acl": record.scope,
                    "tokens": f"{record.token_count:,}",
                    "size": size(record.bytes),
                    "store": project.settings.state,
                }
            )
            for record in made
        ),
    )
    check_all_live(report, report.withheld, screen)


def settings_for(model: str, layout: Path | None, out: str, threads: int | None) -> Settings:
    """The environment's settings with the arguments of the command above them.

    Raises:
        InvalidSetting: `out` is no place of a store.
    """
    settings = load_settings(None, os.environ, root=Path.cwd())
    given: dict[str, str | int] = {"model.path": model}
    if is_object_store(out):
        given["store.url"] = out
    else:
        given["store.path"] = str(store_directory(out))
    if layout:
        given["layout.file"] = str(layout.absolute())
    if threads:
        given["model.threads"] = threads
    return replace(settings, values={**settings.values, **given})


def is_object_store(out: str) -> bool:
    """Whether --out is the URL of an object store; the registry is in ``.quire`` then, and so are artifacts first."""
    return out.partition("://")[0] in {"s3", "gs", "az"}


def store_directory(out: str) -> Path:
    """The directory of a store's path or ``file:///`` URL.

    Raises:
        InvalidSetting.
    """
    from quire.store import open_disk

    return open_disk(out).root


def parse_acl(text: str) -> tuple[Scope, str | None]:
    """``KIND[:OWNER][:MODULE]`` as a scope and, where it is given, the module's name.

    ``public``, ``public:faq``, ``tenant:acme``, ``tenant:acme:billing``, ``workspace:acme/support:billing``.

    Raises:
        InvalidSetting.
    """
    kind, *rest = text.split(":")
    owned = 0 if kind == "public" else 1
    if len(rest) > owned + 1:
        raise InvalidSetting(
            f"--acl {text!r} has {len(rest) + 1} parts, expected at most {owned + 2}",
            hint="KIND:OWNER:MODULE as in tenant:acme:billing, or public:MODULE",
        )
    scope = parse_scope(":".join([kind, *rest[:owned]]), "--acl")
    return scope, rest[owned] if len(rest) > owned else None


def module_name(name: str | None, of_acl: str | None, sources: list[str]) -> str:
    """The module's name: as given, else from the acl, else made from the first source's.

    Raises:
        InvalidSetting: two different names, or one that is none.
    """
    if name and of_acl and name != of_acl:
        raise InvalidSetting(f"--name {name!r} and --acl name different modules ({of_acl!r})", hint="leave one away")
    stem = Path(sources[0]).absolute().stem.lower()
    chosen = name or of_acl or re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._")[:64]
    if not NAME.fullmatch(chosen):
        raise InvalidSetting(
            f"module name {chosen!r} is not lower-case letters, digits and .-_", hint="give one with --name"
        )
    return chosen
