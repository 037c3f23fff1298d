"""`quire limits`: what tenants may use, and what they have used this month."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.markup import escape

from quire.cli.opening import open_catalogue
from quire.cli.options import JsonOption, ProjectOption
from quire.cli.screen import Screen, table
from quire.limits.monthly import utc_now


def limits(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Show the limits of quire.toml by tenant, and the tokens computed for each this month. 0: no limit."""
    month = f"{utc_now():%Y-%m}"
    with open_catalogue(project) as catalogue:
        used = catalogue.registry.use.all(month)
        settings = catalogue.settings
    names = sorted({*settings.tenant_limits, *used})
    rows = table("tenant", "requests/min>", "tokens/min>", "at once>", "tokens/month>", f"used in {month}>", "priority")
    shown: list[dict[str, Any]] = []
    for name in (None, *names):
        allowed = settings.default_limits if name is None else settings.limits_of(name)
        tokens = None if name is None else used.get(name, 0)
        shown.append({"tenant": name, **asdict(allowed), "used": tokens})
        numbers = [n for n in asdict(allowed).values() if isinstance(n, int)]
        cells = [f"{n:,}" if n else "-" for n in numbers] + ["" if tokens is None else f"{tokens:,}"]
        rows.add_row("[dim]any other[/dim]" if name is None else escape(name), *cells, allowed.priority)
    Screen(as_json=as_json).show({"month": month, "default": shown[0], "tenants": shown[1:]}, rows)
