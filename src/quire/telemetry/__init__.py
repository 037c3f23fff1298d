"""What the server says of itself: log lines and traces, which never hold what was asked or answered.

calls   which request a line belongs to
logs    one event per line, for programs or for people
phases  what a trace tells
opening, traces   OpenTelemetry, if it is wanted
"""

from quire.telemetry.calls import Call, call_made, trace_id_of
from quire.telemetry.logs import FORMATS, LEVELS, fields, logs_written
from quire.telemetry.opening import open_traces
from quire.telemetry.phases import Attribute, Phase

__all__ = [
    "FORMATS",
    "LEVELS",
    "Attribute",
    "Call",
    "Phase",
    "call_made",
    "fields",
    "logs_written",
    "open_traces",
    "trace_id_of",
]
