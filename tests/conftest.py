"""Models and projects that the suites share."""

from __future__ import annotations

import os

if not os.path.exists("/dev/nvidiactl"):  # without a GPU its kernels run as Python; PyTorch may import Triton
    os.environ.setdefault("TRITON_INTERPRET", "1")

import json
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from services.postgres import Postgres
from services.redis import RedisServer
from services.registries import Places, PostgresPlaces, SqlitePlaces
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from quire import open_project
from quire.model import DEFAULT_MODEL, LoadedModel, find_model
from quire.registry import Registry
from quire.settings import load_settings

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LONG_TEXT = Path(__file__).parent / "data" / "long" / "lighthouse.md"
CHAOS = os.environ.pop("QUIRE_CHAOS", "10")  # Quire refuses a variable that looks like a setting and is none
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Sources = Mapping[str, str]
MakeProject = Callable[..., Path]


def pytest_configure() -> None:
    """Let interruptions be interruptions: a suite started in the background may have inherited to ignore them.

    And let pipes be as wide as Quire makes them: pytest-xdist tells its processes how wide the terminal is.
    """
    os.environ.pop("COLUMNS", None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` without a GPU; run those marked `services` or `chaos` only where the marks name them."""
    for mark in ("services", "chaos"):
        if mark not in config.option.markexpr:
            items[:] = [item for item in items if not item.get_closest_marker(mark)]
    for item in items:
        if DEVICE == "cpu" and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="there is no GPU"))


@pytest.fixture(scope="session")
def chaos_count() -> int | None:
    """How many cases a suite marked `chaos` tries; None: all of them."""
    return int(CHAOS) or None


@pytest.fixture(scope="session")
def device() -> str:
    """Where code for a GPU is tested: on one if there is one."""
    return DEVICE


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real server that all tests share, each with databases of its own."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real server that all tests share, each under a prefix of its own."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def places(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Where registries can be: what holds of one holds of the other."""
    if request.param == "sqlite":
        return SqlitePlaces(tmp_path_factory.mktemp("registries"))
    return PostgresPlaces(request.getfixturevalue("postgres"))


@pytest.fixture
def place(places: Places, tmp_path: Path) -> str:
    """Path or URL of a registry without modules."""
    return places.empty(tmp_path)


@pytest.fixture
def registry(place: str) -> Iterator[Registry]:
    with Registry.open(place) as opened:
        yield opened


@pytest.fixture(scope="session")
def smol_home() -> Path:
    """The home directory of fetched models, with the default model in it: fetched once per machine."""
    home = load_settings(None, os.environ).model_home
    find_model(DEFAULT_MODEL, home)
    return home


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 600 entries with ChatML."""
    return train_tokenizer(600)


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    """A Llama of two layers with random weights, float32, 2,048 positions, and `tiny_tokenizer`."""
    directory = tmp_path_factory.mktemp("tiny-llama")
    tokenizer = tiny_tokenizer
    tokenizer.save_pretrained(directory)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=2048,
        initializer_range=0.15,  # logits that differ clearly, so that rounding decides nothing
        bos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        dtype="float32",
    )
    with torch.random.fork_rng():
        torch.manual_seed(20)
        LlamaForCausalLM(config).save_pretrained(directory)
    return directory


def train_tokenizer(entries: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of `entries` tokens: any text can be encoded, and short text stays short."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=entries,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LONG_TEXT.read_text(encoding="utf-8").splitlines(), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = CHATML
    return fast


@pytest.fixture(scope="session")
def write_project(tiny_model_dir: Path) -> MakeProject:
    """A function that writes a project into a directory, or writes it anew, and gives the directory.

    `write(root, {"prices": "A bolt costs 3 pounds."})` declares one root module per entry; `parents={"child": "root"}`
    hangs one below another. `model`: another model directory. Further keywords are settings by their dotted names, as
    in `**{"build.prefill_chunk": 64}`.
    """

    def write(
        root: Path,
        sources: Sources,
        *,
        model: Path = tiny_model_dir,
        parents: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Path:
        (root / "knowledge").mkdir(parents=True, exist_ok=True)
        values: dict[str, Any] = {"model.path": str(model), "model.threads": 1, **settings}
        lines: list[str] = []
        for section in dict.fromkeys(key.split(".")[0] for key in values):
            lines.append(f"[{section}]")
            for key, value in values.items():
                if key.startswith(f"{section}."):
                    lines.append(f"{key.removeprefix(f'{section}.')} = {json.dumps(value)}")
        for module, text in sources.items():
            (root / "knowledge" / f"{module}.md").write_text(text, encoding="utf-8")
            lines += [f'[modules."{module}"]', f'sources = ["knowledge/{module}.md"]', 'acl = "public"']
            if parent := (parents or {}).get(module):
                lines.append(f'parent = "{parent}"')
        (root / "quire.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return root

    return write


@pytest.fixture
def project(tmp_path: Path, write_project: MakeProject) -> MakeProject:
    """`write_project` into a directory of the test's own, `name` in its temporary directory."""

    def make(sources: Sources, *, name: str = "project", **settings: Any) -> Path:
        return write_project(tmp_path / name, sources, **settings)

    return make


@pytest.fixture(scope="session")
def smol_model(smol_home: Path) -> LoadedModel:
    """The default model, loaded."""
    return find_model(DEFAULT_MODEL, smol_home).load(threads=1)


@pytest.fixture(scope="session")
def tiny_model(tiny_model_dir: Path) -> LoadedModel:
    """The model of `tiny_model_dir`, loaded."""
    return find_model(str(tiny_model_dir), tiny_model_dir.parent).load(threads=1)


@pytest.fixture(scope="session")
def built_shop(tmp_path_factory: pytest.TempPathFactory, write_project: MakeProject) -> Path:
    """A root module and two children, built. A test that changes it works on a copy."""
    sources = {
        "company": "Norrvik Fasteners sells bolts and nuts to boat builders. " * 4,
        "prices": "A bolt costs 3 pounds. A nut costs 1 pound. " * 4,
        "shipping": "Parcels leave Norrvik at noon and arrive on the third day. " * 4,
    }
    parents = {"prices": "company", "shipping": "company"}
    root: Path = write_project(tmp_path_factory.mktemp("built") / "shop", sources, parents=parents)
    with open_project(root) as project:
        project.build()
    return root


@pytest.fixture
def shop(built_shop: Path, tmp_path: Path) -> Path:
    """A copy of `built_shop`."""
    return Path(shutil.copytree(built_shop, tmp_path / "shop"))
