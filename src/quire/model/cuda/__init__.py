"""Attention and decoding on a GPU. Importing it needs Triton, which comes with PyTorch's CUDA builds.

tables      an attention plan in numbers, made on the host
kernels     the arithmetic, in Triton
attention   a plan of one pass
norm        root-mean-square normalization
decoding    the decode step in fixed places, and its graphs
"""

from quire.model.cuda.attention import TritonAttention
from quire.model.cuda.decoding import DecodeSteps
from quire.model.cuda.norm import TritonNorm

__all__ = ["DecodeSteps", "TritonAttention", "TritonNorm"]
