"""Other processes of the benchmark: one line of JSON in, one line of JSON out, ended when we are done with them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any, Self, TextIO

from quire.errors import MeasurementFailed, QuireError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

PATIENCE = 900.0  # seconds for one answer: a large model on a slow disk
FAREWELL = 10.0  # seconds to leave after its input has ended


class Child:
    """``python -m MODULE`` with the interpreter of this process, or another command. Use it with `with`.

    It gets a process group of its own: Ctrl-C is then ours to answer, and what the child started ends with it.
    """

    def __init__(
        self,
        module: str,
        *,
        command: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        """`command`: instead of ``python -m module``. `environ`: beyond that of this process. `log`: for its errors."""
        self.module = module
        self._log = log
        self._errors = _text_file(log)
        self._process = subprocess.Popen(  # noqa: S603
            command or [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | dict(environ or {}),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Send one order and wait for its answer.

        Raises:
            MeasurementFailed: the process refused the order, ended, or took longer than `PATIENCE`.
        """
        timer = threading.Timer(PATIENCE, self.kill)
        timer.start()
        try:
            if self._process.stdin is None or self._process.stdout is None:
                raise MeasurementFailed(f"{self.module} has no pipes")
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            raise MeasurementFailed(
                f"expected figures from {self.module}, found that it ended: {self._last_words()}",
                hint=f"the end of {self._log} says more"
                if self._log
                else "is there memory enough for two processes with the model?",
            )
        answer: dict[str, Any] = json.loads(line)
        if refused := answer.get("refused"):
            raise MeasurementFailed(f"{self.module}: {refused['message']}", hint=refused["hint"])
        return answer

    def close(self) -> None:
        """End the process: first by closing its input, then by force. May be called twice."""
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin:
                self._process.stdin.close()
        try:
            self._process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        self.close()

    def kill(self) -> None:
        """End the process and what it started, at once. `close` is still needed."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def tail(self, lines: int) -> list[str]:
        """The last lines of what it wrote to standard error, empty ones left out."""
        self._errors.seek(0)
        return [line.rstrip() for line in self._errors if line.strip()][-lines:]

    def _last_words(self) -> str:
        status = self._process.wait()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return "; ".join([*self.tail(1), how])


def _text_file(path: Path | None) -> TextIO:
    """`path` opened anew to be written and read, or a temporary file."""
    if path is None:
        return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
    return path.open("w+", encoding="utf-8", errors="replace")


def answer_orders(handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The other end of `Child`: answer every line of standard input until it ends.

    What libraries print goes to standard error; standard output carries answers only.
    """
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            try:
                answer = handle(json.loads(line))
            except QuireError as error:
                answer = {"refused": {"message": error.message, "hint": error.hint}}
            print(json.dumps(answer), file=answers, flush=True)
