"""`quire push` and `quire pull`: artifacts between this machine and the object store. Neither needs a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from quire.cli.catalogue import resolve
from quire.cli.opening import Catalogue, open_catalogue
from quire.cli.options import JsonOption, Modules, ProjectOption
from quire.cli.screen import Screen, size, table
from quire.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.registry import VersionRecord
    from quire.store import Store

Everything = Annotated[
    bool, typer.Option("--all", "-a", help="Every version that is live or was, not only the live ones.")
]


def push(
    modules: Modules = None, everything: Everything = False, project: ProjectOption = None, as_json: JsonOption = False
) -> None:
    """Send artifacts to the object store, with their ancestors. A build does this by itself before it publishes.

    What is there already is not sent again; one that was interrupted goes on from there.
    """
    screen = Screen(as_json=as_json)
    with open_catalogue(project) as catalogue:
        store = _tiered(catalogue)
        chosen = _chosen(catalogue, modules or (), everything)
        sent = {}
        with _bar(screen, "sending", chosen) as bar:
            for record in chosen:
                sent[record.digest] = store.share(record.digest, lambda count: bar.advance(bar.task_ids[0], count))
    _show(screen, "sent", chosen, sent, catalogue)


def pull(
    modules: Modules = None, everything: Everything = False, project: ProjectOption = None, as_json: JsonOption = False
) -> None:
    """Fetch artifacts from the object store to this machine, so that no first question has to wait for them."""
    screen = Screen(as_json=as_json)
    with open_catalogue(project) as catalogue:
        store = _tiered(catalogue)
        chosen = _chosen(catalogue, modules or (), everything)
        fetched: dict[str, int] = {}

        with _bar(screen, "fetching", chosen) as bar:
            for record in chosen:

                def tell(count: int, digest: str = record.digest) -> None:
                    fetched[digest] = fetched.get(digest, 0) + count
                    bar.advance(bar.task_ids[0], count)

                store.lease(record.digest, tell).release()
    _show(screen, "fetched", chosen, fetched, catalogue)


def share(catalogue: Catalogue, record: VersionRecord) -> None:
    """Before `record` goes live: put its chain into the object store, where there is one.

    Raises:
        ArtifactNotFound, ArtifactError, StoreError.
    """
    if catalogue.settings["store.url"]:
        from quire.compiler.sharing import share_chains

        share_chains(catalogue.registry, _tiered(catalogue), [record], lambda _record, _bytes: None)


def _tiered(catalogue: Catalogue) -> Store:
    from quire.store import open_store

    if not catalogue.settings["store.url"]:
        raise InvalidSetting(
            "expected an object store in store.url, found none", hint='e.g. url = "s3://bucket/quire" under [store]'
        )
    return open_store(catalogue.settings, catalogue.registry.pinned_digests)


def _chosen(catalogue: Catalogue, names: Sequence[str], everything: bool) -> list[VersionRecord]:
    """The versions meant, each after its ancestors and only once."""
    registry = catalogue.registry
    if names:
        wanted = [resolve(registry, name) for name in names]
    elif everything:
        wanted = [record for record in registry.versions() if record.state in ("live", "retired")]
    else:
        wanted = registry.all_live()
    return list({link.digest: link for record in wanted for link in registry.chain(record)}.values())


def _bar(screen: Screen, doing: str, records: Sequence[VersionRecord]) -> Progress:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=screen.notes,
        transient=True,
        disable=screen.as_json or not screen.notes.is_terminal,
    )
    bar.add_task(doing, total=sum(record.bytes for record in records) or None)
    return bar


def _show(
    screen: Screen, done: str, records: Sequence[VersionRecord], moved: dict[str, int], catalogue: Catalogue
) -> None:
    made = table("module", "version", f"{done}>")
    for record in records:
        count = moved.get(record.digest, 0)
        made.add_row(record.module_id, record.version, size(count) if count else "[dim]there already[/dim]")
    total, url = sum(moved.values()), catalogue.settings["store.url"]
    rows = [
        {"module": r.module_id, "version": r.version, "digest": r.digest, "bytes": moved.get(r.digest, 0)}
        for r in records
    ]
    screen.show({"store": url, done: rows, "bytes": total}, made, f"{done} {size(total)} ({url})")
