"""Chains compiled in memory, and the slow way to the same answer."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import blake3
import pytest
import torch

from quire.core import KVSegment
from quire.model import LoadedModel, Row, forward, prefill
from quire.model.kernels import Library, Unit, find_compiler, load_library
from quire.model.kernels.library import HERE, compiled, open_library

Chain = tuple[KVSegment, ...]


def our_kernels(most: Unit = Unit.TILES) -> Library:
    """Our kernels, where there is a compiler."""
    if not find_compiler():
        pytest.skip("there is no C++ compiler")
    return load_library(most)


def library_on(unit: Unit) -> Library:
    """Our kernels on `unit`, where the processor has it; tiles are emulated where it has dot products."""
    library = our_kernels(unit)
    if unit == Unit.TILES != library.unit and load_library(Unit.DOTS).unit == Unit.DOTS:
        return _emulated_tiles()
    if library.unit != unit:
        pytest.skip(f"this processor has no {unit.name.lower()} for bfloat16")
    return library


def built(source: str, directory: Path, *flags: str, compiler: str = "") -> Path:
    """A program on the kernels' headers, compiled from the file `source` beside this one."""
    if not compiler:
        our_kernels()
        compiler = os.environ.get("CXX") or "g++"
    program = directory / Path(source).stem
    command = [*shlex.split(compiler), "-O2", "-std=c++17", "-pthread", f"-I{HERE}", *flags]
    subprocess.run([*command, str(Path(__file__).with_name(source)), "-o", str(program)], check=True)
    return program


@cache
def _emulated_tiles() -> Library:
    header = Path(__file__).with_name("emulated_tiles.h")
    content = blake3.blake3(header.read_bytes()).hexdigest()
    return open_library(compiled("-include", str(header), f"-DCONTENT={content}"))


def compile_chain(model: LoadedModel, segments: Sequence[list[int]], chunk: int = 512, *, after: Chain = ()) -> Chain:
    """`after`, and the KV of each segment after those before it."""
    chain = after
    for ids in segments:
        kv = model.new_kv()
        prefill(model, chain, kv, ids, chunk)
        keys, values = (tuple(t[:, : len(ids)] for t in side) for side in (kv.keys, kv.values))
        start = chain[-1].position_end if chain else 0
        chain = (*chain, KVSegment(keys, values, start, len(ids)))
    return chain


def full_logits(model: LoadedModel, ids: Sequence[int]) -> torch.Tensor:
    """Float32 logits after the last of `ids`, [vocabulary], by transformers alone."""
    with model.reference() as hf:
        output = hf(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False)
        logits: torch.Tensor = output.logits[0, -1]
    return logits.float()


def greedy(model: LoadedModel, chain: Chain, ids: Sequence[int], count: int, chunk: int = 512) -> list[int]:
    """`count` tokens after chain and `ids`, end of answer or not."""
    kv = model.new_kv()
    tokens = [int(prefill(model, chain, kv, ids, chunk).argmax())]
    while len(tokens) < count:
        tokens.append(int(forward(model, [Row(chain, kv, [tokens[-1]])])[0].argmax()))
    return tokens


def greedy_by_transformers(model: LoadedModel, ids: Sequence[int], count: int) -> list[int]:
    """The same by transformers' own cache and attention."""
    with model.reference() as hf:
        output = hf(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=True)
        tokens = [int(output.logits[0, -1].argmax())]
        while len(tokens) < count:
            newest = torch.tensor([tokens[-1:]], device=model.device)
            output = hf(input_ids=newest, past_key_values=output.past_key_values, use_cache=True)
            tokens.append(int(output.logits[0, -1].argmax()))
    return tokens
