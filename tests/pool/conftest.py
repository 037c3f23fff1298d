"""The shop's chains, and what is known of the model that they were compiled for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quire import Project, open_project
from quire.model import ModelFacts, find_model
from quire.registry import VersionRecord

Chain = tuple[VersionRecord, ...]


@pytest.fixture(scope="module")
def facts(tiny_model_dir: Path) -> ModelFacts:
    return find_model(str(tiny_model_dir), tiny_model_dir).facts


@pytest.fixture
def project(shop: Path) -> Iterator[Project]:
    with open_project(shop) as opened:
        yield opened


def chain(project: Project, module: str = "prices") -> Chain:
    return project.registry.chain(project.registry.live(module))
