"""What each arm is given: variables, and its order to open."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pathlib import Path

    from quire.bench.engine.options import ArmName, EngineOptions
    from quire.bench.engine.requests import Requests
    from quire.bench.workbench import Workbench

GIB = 1 << 30
BLOCK = 128  # tokens of vLLM's blocks on a CPU: what a request may leave unused of its last one


def vllm_environ(python: Path, gibibytes: int) -> dict[str, str]:
    """Variables for vLLM: as many threads as the other arms, in this process and on the network of nobody.

    Its documentation asks for Intel's OpenMP to be preloaded, which comes with it.
    """
    processors = sorted(os.sched_getaffinity(0))[: torch.get_num_threads()]
    libraries = [str(p) for p in (python.parent.parent / "lib" / "libiomp5.so",) if p.is_file()]
    return {
        "VLLM_CPU_KVCACHE_SPACE": str(gibibytes),
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, processors)),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(len(processors)),
        "LD_PRELOAD": ":".join([*libraries, *filter(None, [os.environ.get("LD_PRELOAD")])]),
    }


def vllm_space(bench: Workbench, options: EngineOptions, requests: Requests) -> int:
    """GiB of KV that vLLM needs to hold the document once and all suffixes, and one request of the longest context."""
    own = max(options.levels) * (requests.longest + requests.tokens + BLOCK)
    tokens = max(len(bench.token_ids) + own, bench.model.max_positions) * 5 // 4
    return max(4, -(-tokens * bench.model.geometry.bytes_per_token // GIB))


def opening(bench: Workbench, options: EngineOptions, requests: Requests, name: ArmName) -> dict[str, Any]:
    warm = {"do": "open", "suffix": requests.warm, "tokens": requests.tokens}
    model = str(bench.project.source.directory)
    dtype = bench.model.geometry.dtype
    if name == "quire":
        return bench.order(**warm)
    if name == "transformers":
        found = {"artifact": str(bench.artifact), "digest": bench.record.digest, "threads": torch.get_num_threads()}
        return {**warm, **found, "model": model, "dtype": dtype}
    return {
        **warm,
        "model": model,
        "dtype": dtype,
        "prefix": bench.token_ids,
        "max_model_len": bench.model.max_positions,
        "max_num_seqs": max(options.levels),
    }
