"""The chain's KV is read where it lies: nothing of its size is allocated, and the kernel gets its address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from quire.model import GrowingKV, LoadedModel, Row, forward
from quire.model.forward import plan_attention
from quire.model.kernels import NativeAttention

from .conftest import GetModel
from .running import Chain, compile_chain

KERNEL = "aten::_scaled_dot_product_flash_attention_for_cpu"


class KernelInputs(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Addresses of the keys and values that the attention kernel is called with."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.addresses: list[tuple[int, int]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.name() == KERNEL:
            self.addresses.append((args[1].data_ptr(), args[2].data_ptr()))
        return func(*args, **(kwargs or {}))


def step(model: LoadedModel, chain: Chain, requests: int, tokens: int) -> Callable[[], object]:
    kvs = [GrowingKV(model.geometry) for _ in range(requests)]
    for kv in kvs:
        kv.reserve(256)
    return lambda: forward(model, [Row(chain, kv, list(range(5, 5 + tokens))) for kv in kvs])


def test_pytorchs_kernel_reads_the_segments_own_memory(family_model: GetModel) -> None:
    llama = family_model("llama", "torch")
    chain = compile_chain(llama, [list(range(3, 80)), list(range(3, 50))])
    for run in (step(llama, chain, 3, 1), step(llama, chain, 2, 7)):
        with KernelInputs() as seen:
            run()
        for layer in range(llama.geometry.layers):
            for segment in chain:
                place = (segment.keys[layer].data_ptr(), segment.values[layer].data_ptr())
                assert seen.addresses.count(place) == 1, "each segment is read once per layer, for all requests"


def test_our_kernel_is_given_the_segments_own_memory(llama: LoadedModel) -> None:
    chain = compile_chain(llama, [list(range(3, 80)), list(range(3, 50))])
    kv = GrowingKV(llama.geometry)
    kv.reserve(1)
    plan = plan_attention([Row(chain, kv, [5])], llama.backend)
    assert isinstance(plan, NativeAttention)
    for segment, places in zip(chain, plan.addresses(), strict=False):
        assert [tuple(p) for p in places] == [
            (k.data_ptr(), v.data_ptr()) for k, v in zip(segment.keys, segment.values, strict=True)
        ]


def allocated(run: Callable[[], object]) -> int:
    """Bytes that a call allocates, kernels' own scratch memory included: that is one block of keys, up to 512."""
    run()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    return sum(max(0, event.self_cpu_memory_usage) for event in record.key_averages())


def test_a_step_allocates_as_much_behind_a_long_chain_as_behind_a_short_one(tiny_model: LoadedModel) -> None:
    ids = [3 + i % 500 for i in range(1800)]
    short, long = compile_chain(tiny_model, [ids[:600]]), compile_chain(tiny_model, [ids])
    chain_bytes = len(ids) * tiny_model.geometry.bytes_per_token
    for requests, tokens in ((1, 1), (4, 1), (2, 16)):
        few = allocated(step(tiny_model, short, requests, tokens))
        many = allocated(step(tiny_model, long, requests, tokens))
        assert many - few < chain_bytes / 20, f"{requests} requests of {tokens} tokens"
