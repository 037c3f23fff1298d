"""Kernels of our own for the CPU: linear layers on packed weights, attention over shared segments.

kernels.cpp   the arithmetic: vectors.h, dots.h and matrix.h multiply, linear.h, attention.h and decoder.h ask them to
library       compiling it once per machine, and loading it
linear        a layer on packed weights
norm          root-mean-square normalization
attention     an attention plan as the kernel reads it
stack         all layers in one call
"""

from quire.model.kernels.attention import NativeAttention
from quire.model.kernels.library import Compiler, Library, Unit, find_compiler, load_library
from quire.model.kernels.linear import PackedLinear, Panels, quantized
from quire.model.kernels.norm import PackedNorm, packed_norm, replaced_norm
from quire.model.kernels.stack import PackedStack, packed_stack

__all__ = [
    "Compiler",
    "Library",
    "NativeAttention",
    "PackedLinear",
    "PackedNorm",
    "PackedStack",
    "Panels",
    "Unit",
    "find_compiler",
    "load_library",
    "packed_norm",
    "packed_stack",
    "quantized",
    "replaced_norm",
]
