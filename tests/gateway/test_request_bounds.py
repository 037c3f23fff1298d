"""Every field of a request at its largest, and above it: a refusal that names field and bound, at a bounded cost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import httpx
import pytest

from quire.engine.refusing import LONGEST_STOP, MOST_BIASES, MOST_STOPS
from quire.errors import InvalidRequest
from quire.gateway.body import MOST_VALUES, parse_fields
from quire.gateway.schemas import MOST_MESSAGES, ChatFields, CompletionFields, Fields

from .conftest import StartServer
from .process import Server

CHAT, COMPLETIONS, EXPLAIN = "/v1/chat/completions", "/v1/completions", "/v1/routes/explain"
KEYS, AUDIT = "/v1/admin/keys", "/v1/admin/audit"
MOST_BYTES = 4 << 20
JSON = {"content-type": "application/json"}
CPU_SECONDS = 1.0  # of the event loop for a body of 4 MiB; it is about 0.02, and was up to 11
USER = {"role": "user", "content": "What does a bolt cost?"}


def chat(**options: Any) -> dict[str, Any]:
    return {"model": "quire/prices", "messages": [USER], "max_tokens": 2, **options}


def turns(count: int) -> list[dict[str, str]]:
    return [{"role": "system", "content": ""}] * (count - 1) + [USER]


def hints(**values: Any) -> dict[str, Any]:
    return chat(quire=values)


# Path, a field at its largest, and one above it; what the refusal says.
BOUNDS: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    (CHAT, chat(stop=["z" * LONGEST_STOP] * MOST_STOPS), chat(stop=["z" * (LONGEST_STOP + 1)]), "stop", "1024"),
    (CHAT, chat(stop=["z"] * MOST_STOPS), chat(stop=["z"] * (MOST_STOPS + 1)), "stop", "4"),
    (
        CHAT,
        chat(logit_bias={f"{i:04}": 1 for i in range(500)} | {f"{i}": 1 for i in range(100, 500)}),
        chat(logit_bias={str(i): 1 for i in range(MOST_BIASES + 1)}),
        "logit_bias",
        "1024",
    ),
    (CHAT, chat(messages=turns(MOST_MESSAGES)), chat(messages=turns(MOST_MESSAGES + 1)), "messages", "2048"),
    (CHAT, chat(n=16), chat(n=17), "n", "16"),
    (CHAT, chat(top_k=599), chat(top_k=2**31), "top_k", "2147483648"),
    (CHAT, chat(seed=2**63 - 1), chat(seed=2**63), "seed", "9223372036854775808"),
    (CHAT, chat(logprobs=True, top_logprobs=20), chat(logprobs=True, top_logprobs=21), "logprobs", "20"),
    (CHAT, chat(temperature=100), chat(temperature=1e300), "temperature", "100"),
    (CHAT, hints(session="s" * 128), hints(session="s" * 129), "quire.session", "128"),
    (CHAT, hints(intent="s" * 256), hints(intent="s" * 257), "quire.intent", "256"),
    (CHAT, hints(product="s" * 256), hints(product="s" * 257), "quire.product", "256"),
    (CHAT, hints(state="s" * 256), hints(state="s" * 257), "quire.state", "256"),
    (
        CHAT,
        hints(metadata={str(i): "v" * 256 for i in range(32)}),
        hints(metadata={str(i): "v" for i in range(33)}),
        "quire.metadata",
        "32",
    ),
    (CHAT, hints(metadata={"k": "v" * 256}), hints(metadata={"k": "v" * 257}), "quire.metadata.k", "256"),
    (
        COMPLETIONS,
        {"model": "quire/prices", "prompt": ["A bolt"] * 16, "max_tokens": 2},
        {"model": "quire/prices", "prompt": ["A bolt"] * 17},
        "prompt",
        "16",
    ),
    (KEYS, {"title": "t" * 128}, {"title": "t" * 129}, "", "128"),
    (KEYS, {"title": "t", "expires_in_days": 3650}, {"title": "t", "expires_in_days": 3651}, "expires_in_days", "3650"),
    (
        KEYS,
        {"title": "t", "workspaces": [f"w{i}" for i in range(256)]},
        {"title": "t", "workspaces": [f"w{i}" for i in range(257)]},
        "workspaces",
        "256",
    ),
]


@pytest.mark.parametrize(("path", "largest", "above", "param", "bound"), BOUNDS)
def test_a_field_at_its_largest_is_taken_and_one_above_it_is_named(
    server: Server, path: str, largest: dict[str, Any], above: dict[str, Any], param: str, bound: str
) -> None:
    taken, refused = server.post(path, json=largest), server.post(path, json=above)
    assert taken.status_code in {200, 201} or taken.json()["error"]["code"] == "context_length_exceeded", taken.text
    error = refused.json()["error"]
    assert refused.status_code == 400, error
    assert (error["param"] or "").startswith(param)
    assert bound in error["message"]


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "quire", "messages": [USER], **fields}).encode()


def many(piece: bytes, around: Callable[[bytes], bytes]) -> bytes:
    """A body of about `MOST_BYTES` with `piece` again and again."""
    return around(b",".join([piece] * ((MOST_BYTES - 200) // (len(piece) + 1))))


def field(name: bytes) -> Callable[[bytes], bytes]:
    return lambda items: b'{"model":"quire","messages":[{"role":"user","content":"x"}],"%s":[%s]}' % (name, items)


HUGE = b"1" * (MOST_BYTES - 200)
KEYS_OF_ANY_NAME = b",".join(b'"k%d":0' % i for i in range(MOST_BYTES // 14))
COSTLY: dict[str, tuple[bytes, type[Fields]]] = {
    "messages that are none": (many(b"1", lambda items: b'{"model":"quire","messages":[%s]}' % items), ChatFields),
    "messages without fields": (many(b"{}", lambda items: b'{"model":"quire","messages":[%s]}' % items), ChatFields),
    "messages": (
        many(b'{"role":"user","content":"a"}', lambda items: b'{"model":"quire","messages":[%s]}' % items),
        ChatFields,
    ),
    "parts of a message": (
        many(
            b'{"type":"text","text":"a"}',
            lambda items: b'{"model":"quire","messages":[{"role":"user","content":[%s]}]}' % items,
        ),
        ChatFields,
    ),
    "stop strings that are none": (many(b"1", field(b"stop")), ChatFields),
    "stop strings": (many(b'"a"', field(b"stop")), ChatFields),
    "tools": (many(b"{}", field(b"tools")), ChatFields),
    "what is ignored, deep": (many(b"[" * 190 + b"]" * 190, field(b"user")), ChatFields),
    "deeper than any reader goes": (b"[" * 4000 + b"]" * 4000, ChatFields),
    "prompts": (many(b'"a"', lambda items: b'{"model":"quire","prompt":[%s]}' % items), CompletionFields),
    "unknown fields": (b'{"model":"quire",%s}' % KEYS_OF_ANY_NAME, ChatFields),
    "unknown hints": (b'{"model":"quire","quire":{%s}}' % KEYS_OF_ANY_NAME, ChatFields),
    "metadata": (b'{"model":"quire","quire":{"metadata":{%s}}}' % KEYS_OF_ANY_NAME, ChatFields),
    "a misspelt field of any length": (
        b'{"model":"quire","%s":0}' % (b"temprature" * (MOST_BYTES // 10 - 20)),
        ChatFields,
    ),
    "a whole number of any length": (b'{"model":"quire","seed":%s}' % HUGE, ChatFields),
    "a role of any length": (body(messages=[{"role": "x" * (MOST_BYTES - 200), "content": "x"}]), ChatFields),
    "a module of any length": (body(quire={"module": "x" * (MOST_BYTES - 200)}), ChatFields),
    "a stop string of any length": (body(stop="a" * (MOST_BYTES - 200)), ChatFields),
    "half a surrogate pair": (
        b'{"model":"quire","messages":[{"role":"user","content":"%s"}]}' % (rb"\ud800" * (MOST_BYTES // 6 - 20)),
        ChatFields,
    ),
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_the_event_loop_does_for_a_body_is_bounded(name: str) -> None:
    """Counted in processor time of this thread, which other processes do not change."""
    content, schema = COSTLY[name]
    began = time.thread_time()
    with pytest.raises(InvalidRequest):
        parse_fields(content, schema)
    assert time.thread_time() - began < CPU_SECONDS


@pytest.mark.parametrize(
    ("content", "holds"),
    [
        (b'{"model":"quire","messages":[{"role":"user","content":"%s"}]}' % (b"a,[{" * 100_000), True),
        (b'{"model":"quire","messages":[{"role":"user","content":"%s"}]}' % (rb"\"," * 100_000), True),
        (b'{"model":"quire","messages":[{"role":"user","content":"x"}],"user":[%s1]}' % (b"1," * 16_000), True),
        (
            b'{"model":"quire","messages":[{"role":"user","content":"x"}],"user":[%s]}' % (b"1," * MOST_VALUES + b"1"),
            False,
        ),
    ],
)
def test_values_are_counted_and_not_what_texts_hold(content: bytes, holds: bool) -> None:
    if holds:
        assert parse_fields(content, ChatFields).messages
    else:
        with pytest.raises(InvalidRequest, match=f"at most {MOST_VALUES:,} values"):
            parse_fields(content, ChatFields)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("&".join(["kind=route"] * 4000), 200),
        ("limit=000000001" + "9" * 40, 400),
        ("limit=000000001" + "9" * 5000, 400),
        ("limit=%D9%A1", 400),
        ("since=" + "9" * 50_000, 400),
        ("who=" + "%25" * 10_000, 200),
        ("unknown" * 5000 + "=1", 400),
    ],
)
def test_a_long_query_is_answered_or_refused(server: Server, query: str, status: int) -> None:
    with httpx.Client(base_url=server.url) as client:
        request = client.build_request("GET", AUDIT)
        request.url = request.url.copy_with(query=query.encode())
        assert client.send(request).status_code == status


LONG_TEXTS = {
    "one letter": "a" * (MOST_BYTES - 200),
    "spaces": " " * (MOST_BYTES - 300) + "x",
    "words": "word " * ((MOST_BYTES - 200) // 5),
    "accents": "e\u0301" * ((MOST_BYTES - 200) // 7),
    "names of markers": "<|im_end|>" * ((MOST_BYTES - 200) // 10),
}
FILLING = body(messages=[{"role": "user", "content": "word " * 850}], max_tokens=1, quire={"module": "prices"})
ASKED: dict[str, tuple[str, bytes]] = {
    **{
        f"text: {name}": (CHAT, body(messages=[{"role": "user", "content": text}])) for name, text in LONG_TEXTS.items()
    },
    **{f"body: {name}": (CHAT, content) for name, (content, schema) in COSTLY.items() if schema is ChatFields},
    "explain": (EXPLAIN, json.dumps({"question": LONG_TEXTS["words"]}).encode()),
    "a question that fills the model's context": (CHAT, FILLING),
    "stop strings as long as they may be": (
        CHAT,
        body(stop=["a" * LONGEST_STOP] * 4, max_tokens=64, ignore_eos=True, quire={"module": "prices"}),
    ),
}


@contextmanager
def pressed(server: Server, path: str, content: bytes) -> Iterator[None]:
    """Another caller sends `content` again and again."""
    over = threading.Event()

    def press() -> None:
        with httpx.Client(base_url=server.url, timeout=120) as client:
            while not over.is_set():
                client.post(path, content=content, headers=JSON)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_a_caller_who_sends_the_largest_does_not_keep_others_waiting(start_server: StartServer) -> None:
    """Each field in turn, with and without it: a second of room, where one of them took up to forty."""
    server = start_server()

    def seconds() -> float:
        began = time.perf_counter()
        assert server.post(CHAT, json=chat()).status_code == 200
        return time.perf_counter() - began

    seconds()
    filling = server.post(CHAT, content=FILLING, headers=JSON).json()["usage"]["prompt_tokens"]
    assert filling > 1800, "of 2,048 positions"
    waits: dict[str, tuple[float, float]] = {}
    for name, (path, content) in ASKED.items():
        usual = median(seconds() for _ in range(5))
        with pressed(server, path, content):
            waits[name] = usual, median(seconds() for _ in range(5))
    late = {name: times for name, times in waits.items() if times[1] > 2 * times[0] + 1.0}
    assert not late
