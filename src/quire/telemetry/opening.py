"""Traces if they are wanted, and what to do where they cannot be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.errors import InvalidSetting

if TYPE_CHECKING:
    from quire.telemetry.traces import Traces


def open_traces(endpoint: str, *, share: float, service: str, version: str) -> Traces | None:
    """None for an empty `endpoint`: then nothing of OpenTelemetry is imported. Raises InvalidSetting."""
    if not endpoint:
        return None
    try:
        from quire.telemetry.traces import Traces
    except ModuleNotFoundError as error:
        raise InvalidSetting(
            f"tracing.endpoint needs OpenTelemetry, and {error.name} is not installed",
            hint="pip install 'quire[tracing]'",
        ) from error
    return Traces(endpoint, share=share, service=service, version=version)
