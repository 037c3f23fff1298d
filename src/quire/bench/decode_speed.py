"""Decoding behind the document, token by token, against transformers' generate on the same KV.

One token reads every weight and the whole KV once; its floor is (weight bytes + tokens x bytes per token) / copy rate.
Transformers' DynamicCache joins each new key and value to a copy of all earlier ones, which reads and writes the KV
once more per token. It starts from a DynamicCache that is filled with the module's own KV; filling it is not counted,
nor is the question's prefill on either side: the clock runs from the first token to the last.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from quire.bench.figures import Figure, alternate, at_most, milliseconds, ratio
from quire.bench.floors import decode_floor, weight_bytes
from quire.bench.reference import TokenClock, filled_dynamic_cache
from quire.bench.workbench import MODULE
from quire.errors import MeasurementFailed

if TYPE_CHECKING:
    from quire.bench.workbench import Workbench

TOKENS = 33  # the first one stops the question's prefill and starts the clock


def measure_decode(bench: Workbench) -> list[Figure]:
    """Milliseconds per token of both, and their ratio."""
    question = bench.subject.questions[0]
    chosen: dict[str, list[int]] = {}
    arms = {
        "quire": lambda: _engine(bench, question, chosen),
        "transformers": lambda: _generate(bench, question, chosen),
    }
    seconds = alternate(arms, bench.options.repeat, bench.say)
    context = len(bench.token_ids) + len(bench.suffix_ids(question))
    floor = decode_floor(bench.model, context, bench.machine)
    moved = weight_bytes(bench.model) / 1e6, context * bench.model.geometry.bytes_per_token / 1e6
    same = next(
        (i for i, (a, b) in enumerate(zip(chosen["quire"], chosen["transformers"], strict=False)) if a != b),
        min(len(ids) for ids in chosen.values()),
    )
    ours = milliseconds(
        "quire, per token",
        seconds["quire"],
        note=f"{moved[0]:,.0f} MB of weights, {moved[1]:,.0f} MB of KV: floor {floor * 1e3:.1f} ms",
    )
    theirs = milliseconds("transformers generate, per token", seconds["transformers"])
    return [
        ours,
        theirs,
        ratio(
            "quire / transformers", ours, theirs, target=at_most(1), note=f"the first {same} of {TOKENS} tokens agree"
        ),
    ]


def _engine(bench: Workbench, question: str, chosen: dict[str, list[int]]) -> float:
    answer = bench.project.ask(question, module=MODULE, max_tokens=TOKENS, ignore_eos=True)
    times = [time.perf_counter() for _ in answer]
    chosen["quire"] = answer.token_ids
    return _per_token(times)


def _generate(bench: Workbench, question: str, chosen: dict[str, list[int]]) -> float:
    from transformers import GenerationConfig

    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=TOKENS,
        eos_token_id=bench.model.vocabulary,  # one that never comes: both sides decode the same number of tokens
        pad_token_id=0,
        repetition_penalty=1.0,
    )
    with bench.lease() as lease, bench.model.reference() as hf:
        past: Any = filled_dynamic_cache(hf.config, lease.segments)
        prompt = torch.tensor([[*bench.token_ids, *bench.suffix_ids(question)]], device=hf.device)
        clock = TokenClock(prompt.shape[1])
        hf.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            past_key_values=past,
            generation_config=config,
            streamer=clock,
        )
    chosen["transformers"] = clock.token_ids
    return _per_token(clock.times)


def _per_token(times: list[float]) -> float:
    if len(times) < 2:
        raise MeasurementFailed(
            f"expected {TOKENS} tokens, found {len(times)}", hint="ask a question that the layout's stop strings allow"
        )
    return (times[-1] - times[0]) / (len(times) - 1)
