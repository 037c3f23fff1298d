"""Other processes of the benchmark: one line of JSON in, one line of JSON out, ended when we are done with them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any, Self

from quire.errors import MeasurementFailed, QuireError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

PATIENCE = 900.0  # seconds for one answer: a large model on a slow disk
FAREWELL = 10.0  # seconds to leave after its input has ended


class Child:
    """``python -m MODULE`` with the interpreter of this process. Use it with `with`."""

    def __init__(self, module: str) -> None:
        self.module = module
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Send one order and wait for its answer.

        Raises:
            MeasurementFailed: the process refused the order, ended, or took longer than `PATIENCE`.
        """
        timer = threading.Timer(PATIENCE, self._process.kill)
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
                hint="is there memory enough for two processes with the model?",
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
            self._process.kill()
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
            self._process.kill()
        self.close()

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return lines[-1] if lines else f"exit status {self._process.returncode}"


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
