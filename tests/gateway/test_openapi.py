"""The running server keeps to its OpenAPI document, whatever Schemathesis sends: no 5xx, and no other surprise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from issuing import token

from .process import Server
from .two_tenants import SETTINGS, build

HERE = Path(__file__).parent
# Valid by the schema is not all that a request must be: a conversation must end with its user, for one.
UNCHECKED = "positive_data_acceptance"
# The same requests on every run, unless somebody looks for others.
SEED = os.environ.get("QUIRE_FUZZ_SEED", "20")
WORDS = {"operator": ["chief"], "reader": ["staff"], "publisher": ["press"]}


@pytest.mark.parametrize(
    ("role", "examples"),
    [
        ("operator", 1),  # and every boundary that the page names
        pytest.param("operator", 300, marks=pytest.mark.slow),
        pytest.param("publisher", 100, marks=pytest.mark.slow),
        pytest.param("reader", 100, marks=pytest.mark.slow),
    ],
)
def test_no_request_makes_the_server_fail(tmp_path: Path, tiny_model_dir: Path, role: str, examples: int) -> None:
    """With a token, not a key: the fuzzer finds its own key in the list and revokes it."""
    root = build(tmp_path / "project", tiny_model_dir).root
    roles = ",".join(f"{words[0]}={ours}" for ours, words in WORDS.items())
    with Server(root, **{**SETTINGS, "access.roles": roles}) as server:
        signed = token(roles=WORDS[role], exp=4_000_000_000)
        headers = {"authorization": f"Bearer {signed}"}
        done = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                *("run", f"{server.url}/v1/openapi.json", "--no-color"),
                *("--checks", "all", "--exclude-checks", UNCHECKED, "--continue-on-failure"),
                *("--max-examples", str(examples), "--generation-database", "none", "--seed", SEED),
                *("--header", f"Authorization: Bearer {signed}", "--request-timeout", "60"),
            ],
            env={**os.environ, "SCHEMATHESIS_HOOKS": "fuzzing_hooks", "PYTHONPATH": str(HERE), "COLUMNS": "160"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        generated = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
        assert generated is not None, done.stdout[-2000:]
        assert int(generated[2]) >= 500
        assert "401 Unauthorized" not in done.stdout
        assert server.get("/v1/models", headers=headers).status_code == 200
        assert server.get("/readyz").status_code in {200, 503}  # it may have retired every module
        server.terminate()
        _, _, log = server.end()
        assert "Traceback" not in log
