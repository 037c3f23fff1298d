"""Before anything goes live: its chain is put where every gateway can have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from quire.registry import Registry, VersionRecord
    from quire.store import Store


def share_chains(
    registry: Registry, store: Store, records: Iterable[VersionRecord], tell: Callable[[VersionRecord, int], None]
) -> int:
    """Share the artifacts of `records` and of their ancestors, parents first; the bytes that had to be sent. Mutates.

    A parent that went live before there was an object store is sent with its first child. `tell`: called with bytes as
    they go; what it raises ends it, and what is complete by then stays.

    Raises:
        ArtifactNotFound, ArtifactError: there is no good copy. StoreUnreachable, StoreDenied, StoreError, ChainBroken.
    """
    if store.remote is None:
        return 0
    chains = {link.digest: link for record in records for link in registry.chain(record)}
    sent = 0
    for link in chains.values():

        def told(count: int, link: VersionRecord = link) -> None:
            tell(link, count)

        sent += store.share(link.digest, told)
    return sent
