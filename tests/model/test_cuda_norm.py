"""The GPU's normalization is transformers', or it is not used."""

from __future__ import annotations

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from quire.model.backends import TritonBackend
from quire.model.cuda import TritonNorm

ALLOWED = {torch.float32: 1e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}  # two roundings; the interpreter cuts off


@pytest.mark.parametrize("dtype", list(ALLOWED), ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 64), (1, 5, 3, 16), (7, 100)], ids=str)
def test_rows_of_any_shape_are_normalized(dtype: torch.dtype, shape: tuple[int, ...], device: str) -> None:
    norm = LlamaRMSNorm(shape[-1], eps=1e-5).to(device, dtype)
    torch.nn.init.normal_(norm.weight, std=2.0)
    ours = TritonBackend(torch.device(device)).norm(norm)
    assert isinstance(ours, TritonNorm)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device, dtype) * 5
    with torch.inference_mode():
        for given in (x, x.transpose(0, -2), x[..., :1, :]):
            expected = norm(given)
            torch.testing.assert_close(ours(given), expected, rtol=ALLOWED[dtype], atol=ALLOWED[dtype])


def test_another_formula_stays_as_it_is(device: str) -> None:
    class AroundOneRMSNorm(LlamaRMSNorm):  # type: ignore[misc]
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = super().forward(hidden_states) + hidden_states
            return result

    norm = AroundOneRMSNorm(16, eps=1e-5).to(device)
    assert TritonBackend(torch.device(device)).norm(norm) is norm
