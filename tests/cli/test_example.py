"""The example as `make demo` shows it, with the default model."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from quire.model.kernels import find_compiler

from .conftest import Quire

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "skerrivane"
QUIRE = [sys.executable, "-m", "quire"]
AVX2 = {"QUIRE_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
PIPED: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
FACTS = ("12 pounds",)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_example_answers_from_restored_modules(
    quire: Quire, smol_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIRE_MODEL_HOME", str(smol_home))
    monkeypatch.setenv("QUIRE_STORE_PATH", str(tmp_path))
    told = quire("demo", EXAMPLE, "--json")
    assert told.code == 0, told.err
    questions = told.json["questions"]
    assert [q["module"] for q in questions] == [q["expected_module"] for q in questions]
    assert {q["verdict"] for q in questions} <= {"same", "near tie"}
    assert sum(q["right"] for q in questions) >= 0.75 * len(questions)
    assert sorted(q["ratio"] for q in questions)[len(questions) // 3] > 2, (
        "most of them: a machine may stop for a moment"
    )
    assert quire("fsck", "--project", EXAMPLE).code == 0
    tested = quire("test", "--project", EXAMPLE, "--json")
    assert tested.code == 0, tested.err
    assert {run["module"] for run in tested.json["modules"]} == {"company", "billing", "shipping", "api", "warranty"}


@pytest.mark.slow
@pytest.mark.processors
def test_a_new_project_passes_its_golden_tests(
    quire: Quire, smol_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIRE_MODEL_HOME", str(smol_home))
    assert quire("init", tmp_path).code == 0
    built = quire("build", "--project", tmp_path, "--json")
    assert built.code == 0, built.err
    assert [run["green"] for run in built.json["tested"]] == [True]
    asked = quire("ask", "Where is the library?", "--project", tmp_path)
    assert asked.code == 0, asked.err
    assert ("are computed by" in asked.err) == (find_compiler() is None), "what is slower than it could be says so"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kernels", ["native", "torch"])
@pytest.mark.parametrize("cap", [{}, AVX2], ids=["this processor", "AVX2"])
def test_the_first_answers_of_a_new_project_are_right_and_end_by_themselves(
    smol_home: Path, tmp_path: Path, kernels: str, cap: dict[str, str]
) -> None:
    """README's and docs/http.md's first questions, with every arithmetic of this processor and of an older one."""
    if kernels == "native" and not find_compiler():
        pytest.skip("there is no C++ compiler")
    environ = {**os.environ, **cap, "QUIRE_MODEL_HOME": str(smol_home), "QUIRE_MODEL_KERNELS": kernels}

    def run(*arguments: str, stdin: str = "") -> Any:
        command = [*QUIRE, *arguments, "--json"]
        done = subprocess.run(command, cwd=tmp_path, env=environ, input=stdin, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    run("init")
    assert [tested["green"] for tested in run("build")["tested"]] == [True]
    question = re.findall(r'^quire ask "(.+)"$', page("README.md"), re.MULTILINE)[0]
    for answer in (run("ask", question), run("chat", stdin=f"{question}\n")):
        assert answer["finish_reason"] == "stop"
        assert all(fact in answer["answer"] for fact in FACTS)
    bodies = [json.loads(first_body(name)) for name in ("README.md", "docs/http.md")]
    assert question in {body["messages"][0]["content"] for body in bodies}
    with subprocess.Popen([*QUIRE, "serve", "--port", "0", "--json"], cwd=tmp_path, env=environ, **PIPED) as server:
        try:
            assert server.stdout is not None
            url = json.loads("".join(server.stdout.readline() for _ in range(3)))["url"]
            for body in bodies:
                said = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120).json()["choices"][0]
                assert said["finish_reason"] == "stop"
                assert all(fact in said["message"]["content"] for fact in FACTS)
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=60) == 0
        finally:
            server.kill()


def first_body(name: str) -> str:
    """What the first curl of a page sends."""
    bodies: list[str] = re.findall(r"curl [^']*/v1/chat/completions.*?-d '(.+?)'", page(name), re.DOTALL)
    return bodies[0]


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")
