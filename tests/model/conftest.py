from __future__ import annotations

from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from quire.model import LoadedModel, find_model

from .families import FAMILIES, save_family
from .running import our_kernels

GetModel = Callable[..., LoadedModel]
KERNELS = ("native", "torch")


@pytest.fixture(scope="session")
def family_model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast) -> GetModel:
    """The loaded model of a family on our kernels (skipped without a compiler) or on PyTorch's, made once."""
    root = tmp_path_factory.mktemp("families")
    loaded: dict[tuple[str, str], LoadedModel] = {}

    def get(family: str, kernels: str = "native") -> LoadedModel:
        if kernels == "native":
            our_kernels()
        directory = root / family
        if not directory.exists():
            save_family(family, directory, tiny_tokenizer)
        if (family, kernels) not in loaded:
            loaded[family, kernels] = find_model(str(directory), root).load(threads=1, kernels=kernels)
        return loaded[family, kernels]

    return get


@pytest.fixture(params=KERNELS)
def kernels(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=list(FAMILIES))
def model(request: pytest.FixtureRequest, family_model: GetModel, kernels: str) -> LoadedModel:
    return family_model(request.param, kernels)


@pytest.fixture
def llama(family_model: GetModel) -> LoadedModel:
    return family_model("llama")
