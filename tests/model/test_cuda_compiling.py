"""The kernels compile for real GPUs, which needs none: to tensor cores, and to whole vectors of memory at a time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quire.core import KVGeometry
from quire.model.cuda.attention import keys_at_once, wide_rows
from quire.model.cuda.tables import NARROW

Order = tuple[str, str, int, dict[str, int], int]  # kernel, dtype, capability, constants, stages
Made = tuple[Order, dict[str, Any]]  # and what came of it

COMPILE = """
import json, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from quire.model.cuda import kernels

def make(name, dtype, capability, constants, stages=3):
    kernel = getattr(kernels, name)
    tables = dict.fromkeys(("works", "addresses", "targets", "offsets", "entries"), "*i64")
    rooms = {"partial": "*fp32", "weights": "*fp32", "scale": "fp32", "epsilon": "fp32"}
    tensors = dict.fromkeys(("q", "k", "v", "out", "x", "weight"), "*" + dtype)
    types = tables | rooms | tensors | dict.fromkeys(constants, "constexpr")
    made = triton.compile(
        ASTSource(
            fn=kernel,
            signature={argument: types.get(argument, "i32") for argument in kernel.arg_names},
            constexprs={(kernel.arg_names.index(argument),): value for argument, value in constants.items()},
        ),
        target=GPUTarget("cuda", capability, 32),
        options={
            "num_warps": 8 if constants.get("ROWS", 0) > 64 else 4,
            "num_stages": stages,
            "enable_fp_fusion": True,
        },
    )
    return {"ptx": made.asm["ptx"], "shared": made.metadata.shared, "binary": len(made.asm["cubin"])}

print(json.dumps([make(*order) for order in json.loads(sys.argv[1])]))
"""
SHARED_BYTES = {80: 163 << 10, 86: 99 << 10, 90: 227 << 10}  # that one program may have: A100, RTX 3090, H100
SHAPE = {"DIM": 128, "WIDTH": 128}
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}


def attend(dtype: str, capability: int, dim: int, *, wide: bool) -> Order:
    """What a pass over many rows, or over few, would have compiled."""
    geometry = KVGeometry(1, 8, dim, DTYPES[dtype])
    rows = wide_rows(4, 512, geometry) if wide else NARROW
    shape = {"DIM": dim, "WIDTH": dim, "GROUP": 4, "ROWS": rows, "KEYS": keys_at_once(geometry)}
    return "attend", dtype, capability, shape | {"WIDEN": dtype == "fp32"}, 3 if capability != 86 else 2


CARDS = [("bf16", 90), ("fp32", 86)]  # the others with every card
EVERY_CARD = [(dtype, capability) for dtype in DTYPES for capability in SHARED_BYTES]
NARROW_ROWS = attend("bf16", 90, 128, wide=False)
LARGE_HEADS = [attend("bf16", 80, 256, wide=True), attend("fp32", 86, 256, wide=True)]
OTHERS = [
    ("store", "bf16", 90, SHAPE, 3),
    ("merge", "bf16", 90, SHAPE | {"GROUP": 3, "GROUP_WIDTH": 4}, 3),
    ("normalize", "bf16", 90, {"DIM": 2560, "WIDTH": 4096}, 3),
]


@pytest.fixture(scope="module", params=["some", pytest.param("every card", marks=pytest.mark.slow)])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    """What the compiler makes of each order, in a process where Triton does not interpret."""
    cards, large = (CARDS, []) if request.param == "some" else (EVERY_CARD, LARGE_HEADS)
    wide = [attend(dtype, capability, 128, wide=True) for dtype, capability in cards]
    orders = [NARROW_ROWS, *wide, *large, *OTHERS]
    place: Path = tmp_path_factory.mktemp("triton")
    environ = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", COMPILE, json.dumps(orders)]
    environ["TRITON_CACHE_DIR"] = str(place)
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert not done.returncode, done.stderr
    return list(zip(orders, json.loads(done.stdout), strict=True))


def test_every_kernel_compiles(made: list[Made]) -> None:
    assert {order[0] for order, _ in made} == {"attend", "store", "merge", "normalize"}
    assert all(one["binary"] for _, one in made)


def test_attention_fetches_ahead_in_whole_vectors_and_fits(made: list[Made]) -> None:
    for (kernel, dtype, capability, *_rest), one in made:
        if kernel != "attend":
            continue
        assert one["shared"] <= SHARED_BYTES[capability]
        sizes = re.findall(r"cp\.async\.\w+\.shared\.global\s+[^,]+,[^,]+,\s*(\w+)", one["ptx"])
        assert set(sizes) == {"0x10"}, "bytes of each asynchronous read of keys and values"
        assert ("mma" in one["ptx"]) == (dtype == "bf16"), "tensor cores multiply what is 16 bits wide"
