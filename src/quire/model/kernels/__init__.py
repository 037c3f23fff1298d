"""Kernels of our own for the CPU: linear layers on packed weights, attention over shared segments.

kernels.cpp   the arithmetic
library       compiling it once per machine, and loading it
linear        a layer on packed weights
attention     an attention plan as the kernel reads it
"""

from quire.model.kernels.attention import NativeAttention
from quire.model.kernels.library import Library, load_library
from quire.model.kernels.linear import PackedLinear, quantized

__all__ = ["Library", "NativeAttention", "PackedLinear", "load_library", "quantized"]
