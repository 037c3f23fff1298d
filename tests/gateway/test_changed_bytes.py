"""Files that change under a running server: those who use them get an error, all others their answers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import httpx
import pytest

from quire import open_project
from quire.registry import AuditFilter, AuditRecord

from .conftest import StartServer
from .process import SECONDS, Server, eventually

Change = Callable[[Path], None]
LONG = 1500  # tokens: seconds of the small model


def cut(file: Path) -> None:
    os.truncate(file, 5000)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def overwrite(file: Path) -> None:
    """As `cp other file` or `rsync --inplace`: the inode stays, and so does the length. Numbers are in other places."""
    with file.open("r+b") as opened:
        opened.seek(4096)
        content = opened.read()
        opened.seek(4096)
        opened.write(content[512:] + content[:512])


def overwrite_in_secret(file: Path) -> None:
    """And then put the time of modification back."""
    before = file.stat()
    overwrite(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def shard_of(root: Path, module: str) -> Path:
    """The module's KV, made writable."""
    with open_project(root) as project:
        [shard] = project.store.locate(project.registry.live(module).digest).glob("kv-*.safetensors")
    shard.chmod(0o644)
    return shard


def body(module: str, tokens: int = 4, *, stream: bool = False) -> dict[str, object]:
    messages = [{"role": "user", "content": "What does it cost?"}]
    shape = {"messages": messages, "max_tokens": tokens, "ignore_eos": True, "stream": stream, "temperature": 0}
    return {"model": "quire", "quire": {"module": module}, **shape}


def asked(server: Server, module: str, tokens: int = 4) -> tuple[int, str]:
    """The status, and the code of the error or the text of the answer."""
    response = server.post("/v1/chat/completions", json=body(module, tokens))
    value = response.json()
    return response.status_code, value["error"]["code"] if "error" in value else value["choices"][0]["message"][
        "content"
    ]


def streamed(server: Server, module: str, begun: Event) -> str:
    """The code of the error that a long answer ends with; "" for none. `begun` is set with its first event."""
    url = f"{server.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body(module, LONG, stream=True), timeout=SECONDS) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            begun.set()
            if line.startswith("data: {") and "error" in (event := json.loads(line[6:])):
                return str(event["error"]["code"])
    return ""


def recorded(root: Path, kind: str) -> list[AuditRecord]:
    with open_project(root) as project:
        return project.registry.audit.newest(AuditFilter(kinds=(kind,)))


@contextmanager
def under_way(server: Server, *modules: str) -> Iterator[Mapping[str, Callable[[], str]]]:
    """Long answers from `modules` that have begun, that of the last one just now; what each ends with."""
    answers: dict[str, Callable[[], str]] = {}
    with ThreadPoolExecutor() as callers:
        for module in modules:
            begun = Event()
            answers[module] = callers.submit(streamed, server, module, begun).result
            assert begun.wait(SECONDS)
        yield answers


@pytest.mark.parametrize(
    ("change", "memory"),
    [
        (cut, "auto"),
        (overwrite_in_secret, "auto"),
        *(
            pytest.param(change, memory, marks=pytest.mark.slow)
            for change, memory in [(empty, "auto"), (overwrite, "auto"), (cut, "copied"), (overwrite, "copied")]
        ),
    ],
)
def test_a_module_that_changes_fails_its_requests_and_no_others(
    own_shop: Path, start_server: StartServer, change: Change, memory: str
) -> None:
    shard = shard_of(own_shop, "prices")
    kept = shutil.copyfile(shard, own_shop / "kept")
    server = start_server(own_shop, **{"pool.check_seconds": 0.1, "pool.memory": memory})
    right = asked(server, "prices")
    assert right[0] == 200
    with under_way(server, "shipping", "prices") as answers:
        change(shard)
        assert answers["prices"]() == "module_changed"
        assert answers["shipping"]() == ""
    assert asked(server, "prices") in [(500, "checksum_mismatch"), (500, "artifact_truncated")]
    assert asked(server, "shipping")[0] == 200
    assert server.get("/healthz").status_code == 200
    assert server.metric("quire_damaged_copies_total", result="changed") == 1
    assert eventually(lambda: bool(recorded(own_shop, "module.changed")))
    [record] = recorded(own_shop, "module.changed")
    assert (record.module, record.who) == ("prices", "quire")
    assert "kv-00000.safetensors" in record.why
    shutil.copyfile(kept, shard)
    assert asked(server, "prices") == right, "the right bytes answer again, and nothing computed from others is used"
    assert eventually(server.is_idle)


@pytest.mark.slow
@pytest.mark.parametrize("change", [cut, overwrite])
def test_without_looks_in_between_the_end_of_an_answer_and_the_next_lease_find_it(
    own_shop: Path, start_server: StartServer, change: Change
) -> None:
    shard = shard_of(own_shop, "prices")
    server = start_server(own_shop, **{"pool.check_seconds": 0})
    with under_way(server, "prices") as answers:
        change(shard)
        assert answers["prices"]() == "module_changed"
    assert asked(server, "prices")[0] == 500


@pytest.mark.slow
def test_a_whole_answer_of_other_bytes_is_not_given_out(own_shop: Path, start_server: StartServer) -> None:
    shard = shard_of(own_shop, "prices")
    server = start_server(own_shop, **{"pool.check_seconds": 0})
    with ThreadPoolExecutor() as callers:
        answer = callers.submit(asked, server, "prices", LONG)
        assert eventually(lambda: server.metric("quire_answers_running") > 0)
        overwrite(shard)
        assert answer.result() == (503, "module_changed")


def test_touched_files_with_the_same_bytes_go_on(own_shop: Path, start_server: StartServer) -> None:
    shard = shard_of(own_shop, "prices")
    server = start_server(own_shop, **{"pool.check_seconds": 0})
    right = asked(server, "prices")
    with under_way(server, "prices") as answers:
        os.utime(shard)
        assert answers["prices"]() == ""
    link = shard.with_name("link")
    os.link(shard, link)
    link.unlink()
    shard.chmod(0o400)  # its links and its permissions: the time of change alone
    assert asked(server, "prices") == right
    copy = Path(shutil.copyfile(shard, shard.with_name("copy")))
    copy.replace(shard)  # another file with the same bytes
    assert asked(server, "prices") == right
    assert server.log().count("were touched and hold") == 3
    assert server.metric("quire_damaged_copies_total", result="changed") == 0
    assert recorded(own_shop, "module.changed") == []


@pytest.mark.parametrize("change", [cut, pytest.param(overwrite, marks=pytest.mark.slow)])
def test_a_model_that_changes_answers_nothing_until_a_restart(
    own_shop: Path, tiny_model_dir: Path, start_server: StartServer, change: Change
) -> None:
    model = Path(shutil.copytree(tiny_model_dir, own_shop / "model"))
    toml = own_shop / "quire.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace(str(tiny_model_dir), "model"), encoding="utf-8")
    server = start_server(own_shop, **{"pool.check_seconds": 0.1})
    assert asked(server, "prices")[0] == 200
    os.utime(model / "model.safetensors")  # and no more
    assert asked(server, "prices")[0] == 200, "the same bytes"
    with under_way(server, "prices") as answers:
        change(model / "model.safetensors")
        assert answers["prices"]() == "model_changed"
    assert asked(server, "shipping") == (503, "model_changed")
    ready = server.get("/readyz")
    assert (ready.status_code, ready.json()["code"]) == (503, "model_changed")
    assert "restart" in ready.json()["checks"]["weights"]["reason"]
    assert server.get("/healthz").status_code == 200
    assert eventually(lambda: len(recorded(own_shop, "model.changed")) == 1)
    assert "restart the server" in server.log()


def test_a_model_that_is_replaced_by_a_rename_goes_on(
    own_shop: Path, tiny_model_dir: Path, start_server: StartServer
) -> None:
    """What is mapped stays as it is."""
    model = Path(shutil.copytree(tiny_model_dir, own_shop / "model"))
    toml = own_shop / "quire.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace(str(tiny_model_dir), "model"), encoding="utf-8")
    server = start_server(own_shop, **{"pool.check_seconds": 0.1})
    right = asked(server, "prices")
    (model / "new").write_bytes(os.urandom(1000))
    (model / "new").replace(model / "model.safetensors")
    assert eventually(lambda: "until it is restarted" in server.log())
    assert asked(server, "prices") == right
    assert server.get("/readyz").status_code == 200
