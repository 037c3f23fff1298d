"""Whether answers from restored KV are those of a full prefill, and how much of a difference is mere numerics.

For each question, 24 greedy tokens from restored KV are compared with transformers prefilling document and question in
one pass. In float32 they must be the same. In bfloat16 a logit has 8 significant bits, and two orders of summation may
choose differently between two tokens that are as good as tied; so transformers is compared with itself as well: its
fused attention, the document in one pass, against its eager one in chunks, each on KV of its own. A gap is by how many
units of logit the reference preferred its token at the first disagreement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from quire.bench.figures import Figure, at_least
from quire.compiler import compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.bench.workbench import Workbench

TOKENS = 24
CHUNK = 512  # tokens of one eager pass: its scores are heads x CHUNK x tokens


def measure_agreement(bench: Workbench) -> list[Figure]:
    """How many questions agree fully, and the widest gap where they do not: restored, then transformers with itself."""
    questions = bench.subject.questions
    gaps, differences = _restored(bench, questions)
    noise = _noise(bench, questions)
    agreeing, among_itself = ([g for g in found if g is None] for found in (gaps, noise))
    return [
        Figure(
            name=f"same {TOKENS} tokens restored and prefilled",
            value=len(agreeing),
            unit=f"of {len(questions)}",
            target=at_least(len(questions)),
        ),
        _widest("widest gap where they differ", gaps),
        Figure(name="largest logit difference after the question", value=max(differences), unit="logits"),
        Figure(
            name=f"same {TOKENS} tokens, transformers sdpa and eager",
            value=len(among_itself),
            unit=f"of {len(questions)}",
        ),
        _widest("widest gap where those differ", noise),
    ]


Gaps = list[float | None]  # per question; None: no disagreement


def _restored(bench: Workbench, questions: Sequence[str]) -> tuple[Gaps, list[float]]:
    gaps: Gaps = []
    differences: list[float] = []
    with bench.lease() as lease:
        for number, question in enumerate(questions):
            bench.say(f"question {number + 1} of {len(questions)}: restored and prefilled")
            suffix = bench.suffix_ids(question)
            found = compare(bench.model, lease.segments, lease.token_ids, suffix, tokens=TOKENS)
            gaps.append(None if found.same else found.gap)
            differences.append(found.largest_difference)
    return gaps, differences


def _noise(bench: Workbench, questions: Sequence[str]) -> Gaps:
    with bench.model.reference() as hf:
        bench.say("transformers with itself: sdpa")
        prefilled = _prefill(hf, bench.token_ids, len(bench.token_ids))
        suffixes = [bench.suffix_ids(question) for question in questions]
        chosen = [_greedy(hf, _copy(hf, prefilled), s, bench.model.tokenizer.eos_ids) for s in suffixes]
        hf.set_attn_implementation("eager")
        bench.say("transformers with itself: eager")
        prefilled = _prefill(hf, bench.token_ids, CHUNK)
        return [
            _first_gap(hf, _copy(hf, prefilled), suffix, token_ids)
            for suffix, token_ids in zip(suffixes, chosen, strict=True)
        ]


def _prefill(hf: Any, token_ids: Sequence[int], chunk: int) -> Any:
    """Transformers' KV of `token_ids`, computed with the attention that is set, `chunk` tokens at a time."""
    from transformers import DynamicCache

    past = DynamicCache(config=hf.config)
    for start in range(0, len(token_ids), chunk):
        _step(hf, past, token_ids[start : start + chunk])
    return past


def _copy(hf: Any, past: Any) -> Any:
    from transformers import DynamicCache

    copied = DynamicCache(config=hf.config)
    for layer, held in enumerate(past.layers):
        copied.update(held.keys, held.values, layer)
    return copied


def _step(hf: Any, past: Any, token_ids: Sequence[int]) -> torch.Tensor:
    """Logits after `token_ids`, float32 [vocabulary]. Mutates `past`."""
    new = torch.tensor([list(token_ids)], device=hf.device)
    logits: torch.Tensor = hf(input_ids=new, past_key_values=past, use_cache=True, logits_to_keep=1).logits[0, -1]
    return logits.float()


def _greedy(hf: Any, past: Any, suffix: Sequence[int], eos_ids: frozenset[int]) -> list[int]:
    """`TOKENS` greedy tokens after `suffix`, or fewer up to the end of the answer. Mutates `past`."""
    chosen = [int(_step(hf, past, suffix).argmax())]
    while len(chosen) < TOKENS and chosen[-1] not in eos_ids:
        chosen.append(int(_step(hf, past, chosen[-1:]).argmax()))
    return chosen


def _first_gap(hf: Any, past: Any, suffix: Sequence[int], token_ids: Sequence[int]) -> float | None:
    """The gap at the first of `token_ids` that is not the greedy choice. Mutates `past`."""
    logits = _step(hf, past, suffix)
    for token in token_ids:
        best = int(logits.argmax())
        if best != token:
            return float(logits[best] - logits[token])
        logits = _step(hf, past, [token])
    return None


def _widest(name: str, gaps: Gaps) -> Figure:
    found = [gap for gap in gaps if gap is not None]
    return Figure(name=name, value=max(found, default=0.0), unit="logits", samples=tuple(found))
