"""Kernels of our own for the CPU: linear layers on packed weights, attention over shared segments.

kernels.cpp   the arithmetic
library       compiling it once per machine, and loading it
linear        a layer on packed weights
norm          root-mean-square normalization
attention     an attention plan as the kernel reads it
"""

from quire.model.kernels.attention import NativeAttention
from quire.model.kernels.library import Library, load_library
from quire.model.kernels.linear import PackedLinear, quantized
from quire.model.kernels.norm import PackedNorm, packed_norm

__all__ = ["Library", "NativeAttention", "PackedLinear", "PackedNorm", "load_library", "packed_norm", "quantized"]
