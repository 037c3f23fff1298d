"""The fastest full prefill of this machine: what a restored module is compared with.

Transformers in the model's dtype is slow where the processor has no instruction for that dtype, and transformers in
float32 or this engine's own prefill is faster there; elsewhere the order is another one. So all of them are tried:

    way            transformers in the model's dtype; transformers in float32, on a CPU; this engine, document and
                   question computed in chunks behind nothing
    try            the first `LAYERS` layers of the model compute the very token ids in question: once to warm up, then
                   twice by turns, of which the faster counts. Every layer takes the same time, so the times are in the
                   order of those of the whole model at this length, which attention makes grow with its square
    contenders     the fastest way and those that the try puts within `CLOSE` times its time. They are measured with the
                   whole model, and the least time is that of the full prefill
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quire.bench.figures import Figure, milliseconds
from quire.bench.reference import prefill_logits
from quire.engine.memory import available_bytes
from quire.model import prefill

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch

    from quire.model import LoadedModel

    Way = Callable[[Sequence[int]], None]
    Timed = Callable[[Sequence[int]], float]

LAYERS = 2
ROUNDS = 2
CLOSE = 1.25
WIDE = "transformers in float32"
SPARE = 0.8  # of the memory that is free: activations and the document's KV need some too


@dataclass(frozen=True, slots=True)
class FullPrefill:
    """The ways to a full prefill of `tokens` tokens, by name.

    `tried`: seconds that the try predicts for the whole model, of all ways. `left_out`: ways that cannot run here, and
    why. `contenders`: the ways to be measured, each a function from token ids to the seconds until the next one.
    """

    tokens: int
    tried: Mapping[str, float]
    left_out: Mapping[str, str]
    contenders: Mapping[str, Timed]

    def measure(self, token_ids: Sequence[int]) -> dict[str, float]:
        """Seconds to the token after `token_ids`, once by each contender."""
        return {name: run(token_ids) for name, run in self.contenders.items()}

    def slower(self) -> list[Figure]:
        """The ways that are no contenders, as figures."""
        note = f"from {LAYERS} layers; too slow to be measured in full"
        slower = {name: seconds for name, seconds in self.tried.items() if name not in self.contenders}
        return [milliseconds(f"tried, {name}", [seconds], note=note) for name, seconds in slower.items()]


class Ways:
    """All ways to a full prefill with one model."""

    def __init__(self, model: LoadedModel, *, chunk: int = 2048, ours: bool = True) -> None:
        """
        Args:
            chunk: tokens of one pass of this engine, as `build.prefill_chunk`.
            ours: False leaves this engine's own prefill out.
        """
        dtype = model.geometry.dtype
        self._model = model
        self._shallow = model.shallow(min(LAYERS, model.geometry.layers))
        self._makers: dict[str, Callable[[LoadedModel], Way]] = {
            f"transformers in {dtype}": lambda made: _transformers(made.plain)
        }
        if dtype != "float32" and model.device.type == "cpu":
            self._makers[WIDE] = lambda made: _transformers(copy.deepcopy(made.plain).float())
        if ours:
            self._makers[f"quire in {dtype}, {model.backend.identity}"] = lambda made: _engine(made, chunk)
        self._runs: dict[tuple[str, LoadedModel], Timed] = {}

    def attempt(self, token_ids: Sequence[int]) -> FullPrefill:
        """Try every way to a full prefill of `token_ids`."""
        left_out = self._too_large(len(token_ids))
        runs = {name: self._run(name, self._shallow) for name in self._makers if name not in left_out}
        for run in runs.values():
            run(token_ids)
        rounds = [{name: run(token_ids) for name, run in runs.items()} for _ in range(ROUNDS)]
        scale = self._model.geometry.layers / self._shallow.geometry.layers
        tried = {name: scale * min(seconds[name] for seconds in rounds) for name in runs}
        close = [name for name, seconds in tried.items() if seconds <= CLOSE * min(tried.values())]
        return FullPrefill(len(token_ids), tried, left_out, {name: self._run(name, self._model) for name in close})

    def _too_large(self, tokens: int) -> dict[str, str]:
        """The ways for which there is no memory, and how much they take."""
        if WIDE not in self._makers or (WIDE, self._model) in self._runs:
            return {}
        needed = 4 * sum(p.numel() for p in self._model.plain.parameters())
        needed += 2 * tokens * self._model.geometry.bytes_per_token
        free = available_bytes(self._model.device)
        return {} if needed <= SPARE * free else {WIDE: f"it takes {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"}

    def _run(self, name: str, model: LoadedModel) -> Timed:
        """The way called `name` on `model`, made once: a copy in float32 takes memory."""
        if (name, model) not in self._runs:
            with model.alone():
                self._runs[name, model] = _timed(model, self._makers[name](model))
        return self._runs[name, model]


def _transformers(hf: Any) -> Way:
    return lambda token_ids: _choose(prefill_logits(hf, token_ids))


def _engine(model: LoadedModel, chunk: int) -> Way:
    def run(token_ids: Sequence[int]) -> None:
        kv = model.new_kv()
        kv.reserve(len(token_ids))
        _choose(prefill(model, (), kv, token_ids, chunk))

    return run


def _choose(logits: torch.Tensor) -> None:
    int(logits.argmax())  # also waits for a GPU


def _timed(model: LoadedModel, way: Way) -> Timed:
    def run(token_ids: Sequence[int]) -> float:
        with model.alone():
            began = time.perf_counter()
            way(token_ids)
            return time.perf_counter() - began

    return run
