"""Whether what is live has passed its golden tests as the project has them now.

Not part of `assess`: a server looks at staleness whenever a file was touched, and this serves on whatever comes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.errors import InvalidSetting
from quire.golden import suite_of
from quire.registry import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quire.core import ModuleSpec
    from quire.registry import Registry, VersionRecord
    from quire.settings import Settings
    from quire.staleness.assessing import Assessment


def unproven(settings: Settings, registry: Registry, assessments: Iterable[Assessment]) -> dict[str, Reason]:
    """By the name of a module whose live version a build would ask again: why. Reads golden files; mutates nothing."""
    passed = registry.golden.passed_by_live()
    found: dict[str, Reason] = {}
    for one in assessments:
        if one.live and (reason := _why(settings, registry, one.spec, one.live, passed.get(one.spec.module_id))):
            found[one.spec.module_id] = reason
    return found


def _why(
    settings: Settings, registry: Registry, spec: ModuleSpec, live: VersionRecord, passed: str | None
) -> Reason | None:
    """`passed`: the checksum of the suite that the live version declares and passed."""
    try:
        suite = suite_of(settings.root, spec)
    except InvalidSetting as error:
        return Reason("golden", f"its golden tests do not read: {error.message}", found=passed or "none")
    if suite is None or suite.checksum == passed:
        return None
    run = registry.golden.newest(live, suite)
    text = run.complaint if run and not run.green else "it was not asked its golden tests as they are now"
    return Reason("golden", text, "golden tests", suite.checksum, passed or "none")
