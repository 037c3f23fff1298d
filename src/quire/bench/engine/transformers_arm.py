"""Transformers on its own: generate() on a deep copy of a DynamicCache that holds the document.

``python -m quire.bench.engine.transformers_arm``, started by `quire.bench.engine.arms`. This is what transformers
documents for reusing a prompt, and the usual way of cache-augmented generation (Chan et al. 2024): the KV of the
document, here copied from the compiled module so that all arms have the same, is deep-copied for each request, because
generate() appends to it. Requests that come together are answered one after another. The copy is on the clock.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import torch

from quire.artifact import open_artifact
from quire.bench.processes import answer_orders
from quire.bench.reference import TokenClock, filled_dynamic_cache, prefill_logits
from quire.model.kv import TORCH_DTYPES


class TransformersArm:
    """Answers the orders of `quire.bench.engine.arms`."""

    def __init__(self) -> None:
        self._hf: Any = None
        self._past: Any = None
        self._prefix: list[int] = []

    def handle(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order, named by its `do`."""
        handlers = {"open": self.open, "serve": self.serve, "restart": self.restart}
        return handlers[order["do"]](order)

    def open(self, order: dict[str, Any]) -> dict[str, Any]:
        """Load the model as transformers does, copy the document's KV, answer one request."""
        from transformers import AutoModelForCausalLM, __version__

        torch.set_num_threads(order["threads"])
        dtype = TORCH_DTYPES[order["dtype"]]
        self._hf = AutoModelForCausalLM.from_pretrained(order["model"], dtype=dtype, local_files_only=True).eval()
        with open_artifact(Path(order["artifact"]), expect_digest=order["digest"]) as artifact:
            self._prefix = list(artifact.token_ids)
            self._past = filled_dynamic_cache(self._hf.config, [artifact.segment])
        self.serve({"suffixes": [order["suffix"]], "tokens": order["tokens"]})
        versions = {"torch": torch.__version__, "transformers": __version__}
        return {"threads": torch.get_num_threads(), "versions": versions}

    def serve(self, order: dict[str, Any]) -> dict[str, Any]:
        """One suffix after another. Times are seconds since before the first."""
        began = time.perf_counter()
        clocks = [self._generate(suffix, order["tokens"]) for suffix in order["suffixes"]]
        return {
            "times": [[t - began for t in clock.times] for clock in clocks],
            "token_ids": [clock.token_ids for clock in clocks],
        }

    def restart(self, order: dict[str, Any]) -> dict[str, Any]:
        """One forward pass over the whole document and the suffix, until the first token is chosen."""
        began = time.perf_counter()
        with torch.inference_mode():
            int(prefill_logits(self._hf, [*self._prefix, *order["suffix"]]).argmax())
        return {"seconds": time.perf_counter() - began}

    def _generate(self, suffix: list[int], tokens: int) -> TokenClock:
        from transformers import GenerationConfig

        prompt = torch.tensor([[*self._prefix, *suffix]])
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=tokens,
            eos_token_id=self._hf.config.vocab_size,  # one that never comes: all arms decode the same number of tokens
            pad_token_id=0,
            repetition_penalty=1.0,
        )
        clock = TokenClock(prompt.shape[1])
        self._hf.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            past_key_values=copy.deepcopy(self._past),
            generation_config=config,
            streamer=clock,
        )
        return clock


if __name__ == "__main__":
    answer_orders(TransformersArm().handle)
