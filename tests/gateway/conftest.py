"""A small shop with three modules, served by one process for all tests that do not stop it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from openai import OpenAI

from quire import open_project

from .process import Server
from .two_tenants import SETTINGS, TwoTenants, build

PROJECT = """
[model]
path = "{model}"
threads = 1

[modules.company]
sources = ["company.md"]
acl = "public"

[modules.prices]
parent = "company"
sources = ["prices.md"]
acl = "public"
route = {{ keywords = ["bolt", "price"] }}

[modules.shipping]
parent = "company"
sources = ["shipping.md"]
acl = "public"
route = {{ keywords = ["parcel"] }}
"""
SOURCES = {
    "company": "Norrvik Fasteners sells bolts and nuts to boat builders.",
    "prices": "A bolt costs 3 pounds. A nut costs 1 pound.",
    "shipping": "Parcels leave Norrvik at noon and arrive on the third day.",
}
StartServer = Callable[..., Server]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session")
def unserved_shop(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """A built project. A copy of one that is served has a server in its registry, which changes wait for in vain."""
    root = tmp_path_factory.mktemp("unserved")
    write_shop(root, tiny_model_dir)
    with open_project(root) as project:
        project.build()
    return root


@pytest.fixture(scope="session")
def shop(unserved_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built project to be served as it is."""
    return Path(shutil.copytree(unserved_shop, tmp_path_factory.mktemp("shop") / "shop"))


@pytest.fixture
def own_shop(unserved_shop: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(unserved_shop, tmp_path / "shop"))


@pytest.fixture(scope="session")
def server(shop: Path) -> Iterator[Server]:
    with Server(shop) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[OpenAI]:
    with server.openai() as client:
        yield client


@pytest.fixture
def start_server(shop: Path) -> Iterator[StartServer]:
    """A function that starts a server of its own for this test: `start_server(project, **settings)`."""
    with ExitStack() as stack:

        def start(project: Path = shop, **settings: object) -> Server:
            return stack.enter_context(Server(project, **settings))

        yield start


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> TwoTenants:
    """A project of two tenants for one file's tests: what they do stands in its audit log."""
    return build(tmp_path_factory.mktemp("tenants") / "project", tiny_model_dir)


@pytest.fixture(scope="module")
def tenants_server(tenants: TwoTenants) -> Iterator[Server]:
    with Server(tenants.root, **SETTINGS) as running:
        yield running


def write_shop(root: Path, model: Path | str) -> None:
    for name, text in SOURCES.items():
        (root / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    (root / "quire.toml").write_text(PROJECT.format(model=model), encoding="utf-8")
