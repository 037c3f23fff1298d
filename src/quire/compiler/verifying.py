"""Restored against computed: the proof that a module says what its text says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from quire.model import Row, forward, prefill

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from quire.core import KVSegment
    from quire.model import LoadedModel


@dataclass(frozen=True, slots=True)
class Comparison:
    """One suffix answered twice: from restored KV, and by transformers from a full prefill of the same token ids.

    `tokens` of the greedy continuation were compared, the first `agreeing` of them are equal. `gap` is by how much the
    full prefill preferred its token at the first disagreement, in logits: a near tie is numerics, a wide one a defect.
    `largest_difference` is over the logits after the suffix. It takes no time: `quire.bench.full_prefill` does.
    """

    agreeing: int
    tokens: int
    largest_difference: float
    gap: float
    token_ids: tuple[int, ...]

    @property
    def same(self) -> bool:
        return self.agreeing == self.tokens


def compare(
    model: LoadedModel,
    chain: tuple[KVSegment, ...],
    static_ids: Sequence[int],
    suffix_ids: Sequence[int],
    *,
    tokens: int,
    chunk: int = 512,
    stepwise: bool = True,
) -> Comparison:
    """Answer `suffix_ids` greedily both ways, `tokens` long or to the end of the answer.

    Args:
        static_ids: the token ids that `chain` was compiled from, all of them.
        stepwise: transformers generates its answer token by token. Else it reads the restored answer in one pass and
            says at each position what it would have chosen: the same question, asked in a fraction of the time.
    """
    kv = model.new_kv()
    first = prefill(model, chain, kv, suffix_ids, chunk)
    restored = [int(first.argmax())]
    while len(restored) < tokens and restored[-1] not in model.tokenizer.eos_ids:
        restored.append(int(forward(model, [Row(chain, kv, [restored[-1]])])[0].argmax()))

    with model.reference() as hf:
        prompt = torch.tensor([[*static_ids, *suffix_ids]], device=model.device)
        output = hf(input_ids=prompt, use_cache=True, logits_to_keep=1)
        logits = output.logits[0, -1].float()
        difference = float((logits - first).abs().max())
        choices = _generated(hf, output, restored) if stepwise else _foreseen(hf, output, restored)
        agreeing, gap = 0, 0.0
        for token, scores in zip(restored, choices, strict=True):
            best = int(scores.argmax())
            if best != token:
                gap = float(scores[best] - scores[token])
                break
            agreeing += 1
    return Comparison(agreeing, len(restored), difference, gap, tuple(restored))


def _generated(hf: Any, output: Any, answer: list[int]) -> Iterator[torch.Tensor]:
    """Logits [vocabulary] before each token of `answer`, one pass per token."""
    yield output.logits[0, -1].float()
    for token in answer[:-1]:
        step = torch.tensor([[token]], device=output.logits.device)
        output = hf(input_ids=step, past_key_values=output.past_key_values, use_cache=True)
        yield output.logits[0, -1].float()


def _foreseen(hf: Any, output: Any, answer: list[int]) -> Iterator[torch.Tensor]:
    """Logits [vocabulary] before each token of `answer`, all in one pass."""
    yield output.logits[0, -1].float()
    if len(answer) > 1:
        rest = torch.tensor([answer[:-1]], device=output.logits.device)
        yield from hf(input_ids=rest, past_key_values=output.past_key_values, use_cache=True).logits[0].float()
