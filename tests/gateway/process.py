"""A server process as the tests hold it."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from openai import AsyncOpenAI, OpenAI
from prometheus_client.parser import text_string_to_metric_families

from .serving_process import run

KEY = "unused"
SECONDS = 120  # for anything that a process has to do
# Processes are forked from one that has imported everything: that takes longer than all they do.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["quire.gateway", "transformers.models.llama.modeling_llama"])


class Server:
    """A running server. `settings`: by dotted name, for this process only."""

    def __init__(self, project: Path, **settings: object) -> None:
        overrides = {"QUIRE_" + name.upper().replace(".", "_"): str(value) for name, value in settings.items()}
        with tempfile.NamedTemporaryFile(prefix="quire-server-", delete=False) as log:
            self._log = Path(log.name)
        self._reports, report = PROCESSES.Pipe(duplex=False)
        self._process = PROCESSES.Process(
            target=run, args=(project, {"OMP_NUM_THREADS": "1", **overrides}, self._log, report)
        )
        self._process.start()
        report.close()
        self.url = str(self._report())
        self._http = httpx.Client(base_url=self.url, timeout=SECONDS)

    def openai(self, **options: Any) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0, **options)

    def async_openai(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self._http.get(path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self._http.post(path, **options)

    def metric(self, name: str, **labels: str) -> float:
        """The value of one sample of /metrics; 0 where it does not exist yet."""
        for family in text_string_to_metric_families(self.get("/metrics").text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return 0.0

    def is_idle(self) -> bool:
        """Whether nothing is computed, nothing waits, nothing is leased."""
        names = ("quire_answers_running", "quire_answers_waiting", "quire_pool_leases")
        return not any(self.metric(name) for name in names)

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def terminate(self) -> None:
        """Ask for a graceful shutdown."""
        self._process.terminate()

    def kill(self) -> None:
        """As the system does when memory runs out: no shutdown of any kind."""
        self._process.kill()
        self._process.join(SECONDS)

    def end(self) -> tuple[int | None, tuple[int, int, int], str]:
        """Wait for the end: exit code; leases, waiting, running requests that were left; the log."""
        left = self._report()
        self._process.join(SECONDS)
        return self._process.exitcode, left, self.log()

    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text(encoding="utf-8")

    def _report(self) -> Any:
        """What the process says next."""
        try:
            if self._reports.poll(SECONDS):
                return self._reports.recv()
        except EOFError:
            self._process.join()
        raise RuntimeError(f"the server said nothing: {self.log()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
        if self._process.is_alive():
            self.terminate()
        self._process.join(SECONDS)
        self._process.close()
        self._reports.close()
        self._log.unlink()


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether `holds` becomes true within some time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return False
