"""`quire doctor`, run as a process: with and without a compiler, limits, services, a project."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from quire.model.kernels import find_compiler

from .conftest import MakeProject, Outcome, Quire

Doctor = Callable[..., dict[str, dict[str, str]]]
ROWS = [
    *("project", "processor", "arithmetic", "compiler", "GPU", "model"),
    *("memory", "store", "model home", "descriptors"),
]


@pytest.fixture
def doctor(quire: Quire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Runs it in `directory` with `--json`, after the shell's words `before` if there are any, in a process of its own;
    gives the rows by what they are about."""

    def run(directory: Path, *, code: int = 0, before: str = "", **environ: str) -> dict[str, dict[str, str]]:
        for name, value in {"QUIRE_MODEL_HOME": str(tmp_path / "home"), **environ}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(directory)
        told = in_a_process(before) if before else quire("doctor", "--json")
        assert told.code == code, told.err
        assert told.json["ready"] is (code == 0)
        if code:
            error = json.loads(told.err.splitlines()[-1])["error"]
            assert (error["code"], error["exit_code"]) == ("machine_lacks", 19)
        findings: list[dict[str, str]] = told.json["findings"]
        assert all(one["next"] for one in findings if one["state"] != "ok")
        return {one["about"]: one for one in findings}

    return run


def in_a_process(before: str) -> Outcome:
    command = f"{before}; exec {sys.executable} -m quire doctor --json"
    told = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True)
    return Outcome(told.returncode, told.stdout, told.stderr)


def test_a_project_that_lacks_nothing(doctor: Doctor, project: MakeProject, tiny_model_dir: Path) -> None:
    if not find_compiler():
        pytest.skip("there is no C++ compiler")
    root = project({"prices": "A bolt costs 3 pounds."})
    found = doctor(root)
    assert list(found) == ROWS
    assert {one["state"] for about, one in found.items() if about not in {"GPU", "descriptors"}} == {"ok"}
    assert str(root) in found["project"]["found"]
    assert "2,048 tokens" in found["model"]["found"]
    assert str(tiny_model_dir) in found["model"]["found"]
    assert "GB free" in found["memory"]["found"]
    assert "computed by our own kernels" in found["arithmetic"]["found"]
    assert not (root / ".quire").exists()


def test_outside_a_project_without_a_model_nothing_is_downloaded(doctor: Doctor, tmp_path: Path) -> None:
    found = doctor(tmp_path)
    assert "none here" in found["project"]["found"]
    assert found["model"]["state"] == "advice"
    assert "quire model fetch" in found["model"]["next"]
    assert "93 MB" in found["model"]["next"]
    assert not (tmp_path / "home").exists()


def test_without_a_compiler_it_says_what_computes_instead(doctor: Doctor, project: MakeProject, tmp_path: Path) -> None:
    found = doctor(project({"prices": "A bolt costs 3 pounds."}), before=f"PATH={tmp_path}")
    assert found["compiler"]["state"] == "advice"
    assert "g++" in found["compiler"]["next"]
    assert found["arithmetic"]["state"] == "advice"
    assert "computed by PyTorch" in found["arithmetic"]["found"]


def test_kernels_that_are_asked_for_and_cannot_be_compiled_are_a_lack(
    doctor: Doctor, project: MakeProject, tmp_path: Path
) -> None:
    root = project({"prices": "A bolt costs 3 pounds."})
    found = doctor(root, code=19, before=f"PATH={tmp_path}", QUIRE_MODEL_KERNELS="native")
    assert found["arithmetic"]["state"] == "lack"


def test_a_low_limit_of_open_files(doctor: Doctor, tmp_path: Path) -> None:
    found = doctor(tmp_path, before="ulimit -n 300")
    assert found["descriptors"]["state"] == "advice"
    assert found["descriptors"]["found"] == "300 open files, at most 300"
    assert "ulimit -n" in found["descriptors"]["next"]


def test_a_project_file_that_does_not_read_is_a_row(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "quire.toml").write_text("[engine]\nguesse = 3\n")
    found = doctor(tmp_path, code=19)
    assert found["project"]["state"] == "lack"
    assert "guesse" in found["project"]["found"] + found["project"]["next"]
    assert list(found) == ROWS


def test_a_model_that_is_not_there_and_a_device_that_is_not_there(doctor: Doctor, tmp_path: Path) -> None:
    found = doctor(tmp_path, code=19, QUIRE_MODEL_PATH="./nothing", QUIRE_MODEL_DEVICE="nonsense")
    assert {about for about, one in found.items() if one["state"] == "lack"} == {"arithmetic", "GPU", "model"}


def test_services_that_answer_and_that_do_not(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_server(("127.0.0.1", 0)) as closed:
        (port, free) = (one.getsockname()[1] for one in (listening, closed))
        closed.close()
        found = doctor(
            tmp_path,
            code=19,
            QUIRE_REGISTRY_URL=f"postgresql://ann:secret@127.0.0.1:{port}/quire",
            QUIRE_REDIS_URL=f"redis://127.0.0.1:{free}/0",
            QUIRE_STORE_URL=f"file://{tmp_path}/objects",
        )
    assert [found[name]["state"] for name in ("PostgreSQL", "Redis", "object store")] == ["ok", "lack", "ok"]
    assert found["Redis"]["next"] == "start it, or correct redis.url"
    assert "secret" not in json.dumps(found)


def test_a_store_without_room_and_one_that_is_no_directory(
    doctor: Doctor, project: MakeProject, tmp_path: Path
) -> None:
    root = project({"prices": "A bolt costs 3 pounds."})
    found = doctor(root, code=19, QUIRE_STORE_PATH="/proc/nowhere")
    assert found["store"]["state"] == "lack"
    assert "0 B free" in found["store"]["found"]
    (tmp_path / "file").touch()
    assert "no directory" in doctor(root, code=19, QUIRE_STORE_PATH=f"{tmp_path}/file/store")["store"]["found"]


def test_for_people_it_is_a_table(quire: Quire, project: MakeProject) -> None:
    told = quire("doctor", "--project", project({"prices": "A bolt costs 3 pounds."}))
    assert told.code == 0, told.err
    assert all(row in told.out for row in ROWS)
