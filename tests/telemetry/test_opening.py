"""Tracing costs nothing where it is off, and says what it needs where it is on."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_without_an_endpoint_nothing_is_imported() -> None:
    code = (
        "import sys; from quire.telemetry import open_traces; "
        "assert open_traces('', share=1.0, service='x', version='1') is None; "
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_without_the_extra_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['opentelemetry.sdk'] = None; from quire.telemetry import open_traces\n"
        "try: open_traces('http://127.0.0.1:4318/v1/traces', share=1.0, service='x', version='1')\n"
        "except Exception as error: print(type(error).__name__, error.message, error.hint)"
    )
    assert run(code).stdout.strip().startswith("InvalidSetting tracing.endpoint needs OpenTelemetry")
    assert "pip install 'quire[tracing]'" in run(code).stdout
