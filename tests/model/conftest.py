from __future__ import annotations

from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from quire.model import LoadedModel, find_model

from .families import FAMILIES, save_family

GetModel = Callable[[str], LoadedModel]


@pytest.fixture(scope="session")
def family_model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast) -> GetModel:
    """The loaded model of a family, made once."""
    root = tmp_path_factory.mktemp("families")
    loaded: dict[str, LoadedModel] = {}

    def get(family: str) -> LoadedModel:
        if family not in loaded:
            directory = save_family(family, root / family, tiny_tokenizer)
            loaded[family] = find_model(str(directory), root).load(threads=1)
        return loaded[family]

    return get


@pytest.fixture(params=list(FAMILIES))
def model(request: pytest.FixtureRequest, family_model: GetModel) -> LoadedModel:
    return family_model(request.param)


@pytest.fixture
def llama(family_model: GetModel) -> LoadedModel:
    return family_model("llama")
