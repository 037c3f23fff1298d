"""Callers of every kind on a server, for minutes: patient, leaving, mistaken, and those who never come back."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

CALLERS = 4  # at once
CHAT = "/v1/chat/completions"
QUESTIONS = ("What does a bolt cost?", "When does my parcel leave?", "What is the price of a nut?", "Who buys bolts?")


class Soak:
    """Runs callers against one server until it is told to stop, and counts what they did by kind."""

    def __init__(self, url: str, seed: int = 0) -> None:
        self.done: Counter[str] = Counter()
        self.unexpected: Counter[str] = Counter()  # statuses and errors that no caller of that kind should see
        self._random = random.Random(seed)
        self._client = httpx.AsyncClient(base_url=url, timeout=120)
        self._sessions = 0
        kinds: tuple[tuple[int, Callable[[], Awaitable[None]]], ...] = (
            (4, self.ask),
            (4, self.leave_stream),
            (2, self.leave_answer),
            (3, self.abandon_session),
            (2, self.sample),
            (1, self.explain),
            (3, self.mistake),
            (1, self.send_too_much),
            (1, self.look),
        )
        self._kinds = [kind for weight, kind in kinds for _ in range(weight)]

    async def run(self, seconds: float) -> None:
        """Let `CALLERS` callers ask for `seconds`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds

        async def call() -> None:
            while loop.time() < deadline:
                kind = self._random.choice(self._kinds)
                await kind()
                self.done[kind.__name__] += 1

        async with self._client:
            await asyncio.gather(*(call() for _ in range(CALLERS)))

    async def ask(self) -> None:
        await self._post(200, self._chat(max_tokens=8))

    async def leave_stream(self) -> None:
        """Read a few pieces of a long answer and close the connection."""
        body = self._chat(max_tokens=400, ignore_eos=True, stream=True, n=self._random.choice((1, 1, 2)))
        async with self._client.stream("POST", CHAT, json=body) as response:
            self._check(response.status_code, 200)
            left = self._random.randrange(6)
            async for _line in response.aiter_lines():
                left -= 1
                if left < 0:
                    break

    async def leave_answer(self) -> None:
        """Do not wait for an answer that comes in one piece."""
        with suppress(httpx.ReadTimeout):
            await self._client.post(CHAT, json=self._chat(max_tokens=400, ignore_eos=True), timeout=0.2)

    async def abandon_session(self) -> None:
        """Two turns of a conversation that has no third."""
        self._sessions += 1
        quire = {"session": f"soak-{self._sessions}"}
        body = self._chat(max_tokens=8, quire=quire)
        answer = await self._post(200, body)
        if answer is not None:
            said = {"role": "assistant", "content": answer["choices"][0]["message"]["content"]}
            await self._post(200, {**body, "messages": [*body["messages"], said, *self._chat()["messages"]]})

    async def sample(self) -> None:
        await self._post(
            200,
            self._chat(
                max_tokens=8, temperature=0.8, top_p=0.9, logprobs=True, top_logprobs=5, stop=["\n\n", "x" * 200], n=2
            ),
        )

    async def explain(self) -> None:
        await self._post(200, {"question": self._question()}, path="/v1/routes/explain")

    async def mistake(self) -> None:
        wrong: dict[str, Any] = self._random.choice(
            (
                {"temprature": 1},
                {"n": 99},
                {"logit_bias": {"1": 1e7}},
                {"messages": []},
                {"model": "another"},
                {"max_tokens": 10**6},
                {"stop": ["x"] * 9},
                {"quire": {"module": "missing"}},
                {"messages": [{"role": "assistant", "content": "first"}]},
            )
        )
        body = {**self._chat(quire={"module": "prices"}), **wrong}
        response = await self._client.post(CHAT, json=body)
        self._check(response.status_code, 404 if "model" in wrong or "quire" in wrong else 400)

    async def send_too_much(self) -> None:
        """A text that cannot fit, a body that may not come in, JSON that is none."""
        size = self._random.choice((200_000, 1_000_000, 5_000_000))
        body = json.dumps(self._chat(text="no end of words " * (size // 16), quire={"module": "prices"})).encode()
        cut = body[: -self._random.choice((1, 2))]  # no `]` and `}`
        expected = 413 if size == 5_000_000 else 400
        sent = self._random.choice((body, cut))
        response = await self._client.post(CHAT, content=sent, headers={"content-type": "application/json"})
        self._check(response.status_code, expected)

    async def look(self) -> None:
        for path in ("/metrics", "/v1/modules", "/readyz", "/v1/admin/audit?limit=50"):
            self._check((await self._client.get(path)).status_code, 200)
        self._check((await self._client.get(f"/missing/{self._random.random()}")).status_code, 404)

    async def _post(self, status: int, body: dict[str, Any], path: str = CHAT) -> Any:
        response = await self._client.post(path, json=body)
        self._check(response.status_code, status)
        return response.json() if response.status_code == 200 else None

    def _check(self, found: int, expected: int) -> None:
        if found != expected:
            self.unexpected[f"{found} instead of {expected}"] += 1

    def _question(self) -> str:
        filler = " ".join(self._random.choices(("please", "today", "boat", "order", "seven"), k=8))
        return f"{self._random.choice(QUESTIONS)} ({filler} {self._random.randrange(10**6)})"

    def _chat(self, text: str = "", **options: Any) -> dict[str, Any]:
        return {"model": "quire", "messages": [{"role": "user", "content": text or self._question()}], **options}


def anonymous_bytes(pid: int) -> int:
    """Anonymous memory of a process that is in RAM."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon"))) << 10
