"""What callers are told of modules that are stale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.gateway.rates import rate_headers

if TYPE_CHECKING:
    from quire.gateway.generation import Generation


def answer_headers(generation: Generation) -> dict[str, str]:
    """The headers of an answer: what is left of the limits, and ``quire-stale`` where it may be out of date.

    That names each stale module that answers, with its triggers: ``prices; triggers=source,parent``.
    """
    stale: dict[str, str] = {}
    for one in generation.prepared:
        said = one.provenance()
        if said["stale"]:
            stale[said["module"]] = f"{said['module']}; triggers={','.join(said['stale']['triggers'])}"
    return rate_headers(generation.admission.standing) | ({"quire-stale": ", ".join(stale.values())} if stale else {})
