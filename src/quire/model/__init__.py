"""Models: finding, identifying and running them, and the layout of their KV."""

from quire.model.arithmetic import Arithmetic, choose_arithmetic, processor_name
from quire.model.default import DEFAULT_MODEL
from quire.model.forward import Row, forward, prefill
from quire.model.kernels import Compiler
from quire.model.kv import GrowingKV, KVSpace, KVSpaceFull, on_device
from quire.model.likeliest import likeliest
from quire.model.loading import LoadedModel, ModelFacts, ModelSource, find_model
from quire.model.proving import check_exact
from quire.model.torch_attention import merge, partial_attention
from quire.tokenizer import TextTokenizer

__all__ = [
    "DEFAULT_MODEL",
    "Arithmetic",
    "Compiler",
    "GrowingKV",
    "KVSpace",
    "KVSpaceFull",
    "LoadedModel",
    "ModelFacts",
    "ModelSource",
    "Row",
    "TextTokenizer",
    "check_exact",
    "choose_arithmetic",
    "find_model",
    "forward",
    "likeliest",
    "merge",
    "on_device",
    "partial_attention",
    "prefill",
    "processor_name",
]
