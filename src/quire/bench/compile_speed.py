"""Compiling against transformers' fastest plain forward pass on the same token ids.

The forward pass is the floor of a compilation: every weight is multiplied with every token, every query with the keys
before it (`quire.bench.floors`). On top of it a compilation writes the KV into the artifact's mapped files (tokens x
bytes per token), computes its last tokens a second time from what was written, hashes every byte twice (writing and
reading back), flushes to the disk and enters the module into the registry. Both run on the same weights with the same
threads; transformers uses its fused attention (sdpa), keeps its KV and computes the logits of the last token only. It
computes in the model's dtype or in float32, whichever is faster here (`quire.bench.full_prefill`).
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from quire.bench.figures import Arm, Figure, alternate, at_least, rate, ratio
from quire.bench.floors import prefill_floor, prefill_operations
from quire.bench.full_prefill import Ways
from quire.compiler.compiling import Parents, compile_module
from quire.model import prefill
from quire.registry import Reason, Registry
from quire.store import open_disk

if TYPE_CHECKING:
    from quire.bench.workbench import Workbench


def measure_compile(bench: Workbench) -> list[Figure]:
    """Tokens per second of a whole compilation, of its prefill, and of transformers' forward pass."""
    tokens = len(bench.token_ids)
    bench.say("trying transformers")
    others = Ways(bench.model, ours=False).attempt(bench.token_ids)
    arms: dict[str, Arm] = {
        "compile": lambda: _compile(bench),
        "prefill": lambda: prefill_seconds(bench),
        **{name: partial(run, bench.token_ids) for name, run in others.contenders.items()},
    }
    seconds = alternate(arms, bench.options.repeat, bench.say)
    floor = prefill_floor(bench.model, tokens, bench.machine)
    operations = prefill_operations(bench.model, tokens)
    whole = rate("compile: prefill, check, write, register", tokens, seconds["compile"], "tokens/s")
    alone = rate("its prefill alone", tokens, seconds["prefill"], "tokens/s")
    note = f"{operations / 1e12:.2f} Tflop, at the rate of a large product {floor:.2f} s"
    plain = [rate(f"forward, {name}", tokens, seconds[name], "tokens/s", note=note) for name in others.contenders]
    best = max(plain, key=lambda figure: figure.value)
    by = best.name.removeprefix("forward, ")
    return [
        whole,
        alone,
        *plain,
        *others.slower(),
        ratio("compile / transformers", whole, best, target=at_least(0.9), note=by),
        ratio("prefill alone / transformers", alone, best, note=by),
    ]


def _compile(bench: Workbench) -> float:
    plan, state = replace(bench.plan, reasons=[Reason("new", "benchmark")]), bench.work / "compiled"
    store = open_disk(state)
    registry = Registry.open(state / "registry.db")
    try:
        began = time.perf_counter()
        compile_module(plan, bench.model, Parents(), registry, store, advance=lambda _tokens: None, actor="bench")
        return time.perf_counter() - began
    finally:
        registry.close()
        shutil.rmtree(state)


def prefill_seconds(bench: Workbench) -> float:
    """How long computing the document's KV takes, without writing it."""
    began = time.perf_counter()
    kv = bench.model.new_kv()
    kv.reserve(len(bench.token_ids))
    prefill(bench.model, (), kv, bench.token_ids, int(bench.plan.inputs["prefill_chunk"]))
    return time.perf_counter() - began
