"""A device that is not there is said to be missing before anything is read, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quire.errors import DeviceUnavailable
from quire.model import find_model
from quire.model.devices import find_device


def test_devices_that_are_there(device: str) -> None:
    assert find_device("cpu") == torch.device("cpu")
    assert find_device(device).type == device


@pytest.mark.parametrize(
    ("name", "said"),
    [("gpu", "no device"), ("", "no device"), ("cuda:99", "cuda:99"), ("xpu", "does not work")],
)
def test_a_device_that_is_not_there_is_named(name: str, said: str, tiny_model_dir: Path) -> None:
    with pytest.raises(DeviceUnavailable, match=said) as refused:
        find_model(str(tiny_model_dir), tiny_model_dir).load(device=name)
    assert "model.device" in refused.value.hint or "cuda:0" in refused.value.hint


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_hint_says_how_to_get_one_used() -> None:
    with pytest.raises(DeviceUnavailable, match=r"model\.device is cuda") as refused:
        find_device("cuda")
    assert "set model.device to cpu" in refused.value.hint
