"""All decoder layers of a model in one call, for models whose layers are those of Llama and its kin.

Between the products of a step transformers' layers run some forty small operations each, which take longer than the
products of a single request. Layers are taken over only if their code is known, so that nothing but what the kernel
reads decides (see `known`), and a try with random numbers shows that the kernel computes what they do. All others keep
transformers' code, with our products inside it.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, cast

import torch

from quire.core import KVGeometry
from quire.model.attention import SuffixSpan, check_asked
from quire.model.kernels.attention import NativeAttention
from quire.model.kernels.known import is_known
from quire.model.kernels.library import Library, Weights
from quire.model.kernels.rounding import WIDER, as_exact
from quire.model.kv import DTYPE_NAMES, GrowingKV

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quire.model.kernels.linear import PackedLinear

    Pack = Callable[[torch.Tensor, torch.Tensor | None], PackedLinear]

ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
NORMS = {"q_norm", "k_norm"}
GATED = {"gate_proj", "up_proj", "down_proj"}
TRIED = (0, 1, 2, 17, 300, 301, 1000, 4097)  # positions of the tokens of a try
SPREADS = (
    1.0,
    1e-1,
    1e-2,
    1e-3,
)  # of the numbers of a token: beside large ones the rounded sum hides what a layer adds


class _Layer(ctypes.Structure):
    """`struct Layer` of decoder.h."""

    _fields_ = [
        *[(name, Weights) for name in ("qkv", "out", "gate_up", "down")],
        *[(name, ctypes.c_void_p) for name in ("input_norm", "q_norm", "k_norm", "post_norm")],
    ]


class _Decoder(ctypes.Structure):
    """`struct Decoder` of decoder.h."""

    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("layers", "width", "inner")],
        ("epsilon", ctypes.c_float),
        ("layer", ctypes.c_void_p),
    ]


class PackedStack(torch.nn.Module):
    """What `layers` compute, one after the other, in place of them."""

    def __init__(self, library: Library, layers: Sequence[torch.nn.Module], config: Any, pack: Pack) -> None:
        """`layers`: all with the modules that `fits` wants. `config`: read at every pass for a sliding window."""
        super().__init__()
        first = cast("Any", layers[0])
        self.config = config
        self.scale = float(first.self_attn.scaling)
        self.dim = int(first.self_attn.head_dim)
        self.heads = first.self_attn.q_proj.out_features // self.dim
        self.kv_heads = first.self_attn.k_proj.out_features // self.dim
        self._library = library
        self._layers = layers
        self._kept: list[object] = []  # what the structs point into
        structs = (_Layer * len(layers))(*(self._packed(layer, pack) for layer in layers))
        self._decoder = _Decoder(
            *(len(layers), first.mlp.gate_proj.in_features, first.mlp.gate_proj.out_features),
            *(first.input_layernorm.variance_epsilon, ctypes.addressof(structs)),
        )
        self._kept.append(structs)

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        **_unused: object,
    ) -> torch.Tensor:
        """hidden_states: [1, tokens, width], which is overwritten; cosines and sines [1, tokens, head_dim]."""
        first = self._layers[0].self_attn
        asked = {"sliding_window": getattr(first, "sliding_window", getattr(self.config, "sliding_window", None))}
        plan = check_asked({"keys": (self.kv_heads, self.dim)}, attention_mask, asked)
        plan.wait_for(len(self._layers) - 1)  # one call reads all of them
        hidden = hidden_states.contiguous()
        self._run(self._decoder, cast("NativeAttention", plan), hidden, position_embeddings)
        return hidden

    def agrees(self, rotary: Any, stored: Callable[[torch.Tensor], torch.Tensor] | None = None) -> bool:
        """Whether every layer gives what the original gives for random numbers, but for what rounding explains.

        Args:
            rotary: the model's rotary positions.
            stored: of a matrix, the numbers that `pack` keeps of it, in float32; None: the matrix itself.
        """
        dtype = cast("Any", self._layers[0]).input_layernorm.weight.dtype
        hidden = torch.randn(1, len(TRIED), self._decoder.width, generator=torch.Generator().manual_seed(0))
        hidden = (hidden * torch.tensor(SPREADS).repeat(len(TRIED))[: len(TRIED), None]).to(dtype)
        positions = rotary(hidden, torch.tensor([TRIED]))
        if any(side.shape != (1, len(TRIED), self.dim) or side.dtype != dtype for side in positions):
            return False
        geometry = KVGeometry(1, self.kv_heads, self.dim, DTYPE_NAMES[dtype])
        for i, layer in enumerate(self._layers):
            kv = GrowingKV(geometry)
            kv.reserve(len(TRIED))
            plan = NativeAttention([], [SuffixSpan(kv, 0, len(TRIED), 0)], self._library, 1)
            one = _Decoder(1, self._decoder.width, self._decoder.inner, self._decoder.epsilon, 0)
            one.layer = self._decoder.layer + i * ctypes.sizeof(_Layer)
            ours = hidden.clone()
            self._run(one, plan, ours, positions)
            theirs, exact = (_computed(layer, hidden, positions, stored, to) for to in (dtype, WIDER[dtype]))
            if not as_exact(ours[0], theirs[0], exact[0]):
                return False
        return True

    def _run(
        self,
        decoder: _Decoder,
        plan: NativeAttention,
        hidden: torch.Tensor,
        positions: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        cosines, sines = (side[0].contiguous() for side in positions)
        prepared = plan.prepare(self.heads, hidden.shape[1], self.dim, self.scale)
        self._library.decode(
            ctypes.byref(decoder),
            ctypes.byref(prepared),
            *(t.data_ptr() for t in (cosines, sines, hidden)),
        )

    def _packed(self, layer: Any, pack: Pack) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        qkv = [attention.q_proj, attention.k_proj, attention.v_proj]
        joined = torch.cat([side.weight for side in qkv]), _cat([side.bias for side in qkv])
        lanes = self._library.wide // 2
        sides = (mlp.gate_proj, mlp.up_proj)
        bias = None if mlp.up_proj.bias is None else _woven([side.bias for side in sides], lanes)
        gated = _woven([side.weight for side in sides], lanes), bias
        plain = [(side.weight, side.bias) for side in (attention.o_proj, mlp.down_proj)]
        linears = [pack(*joined), pack(*plain[0]), pack(*gated), pack(*plain[1])]
        norms = [layer.input_layernorm, *(getattr(attention, name, None) for name in sorted(NORMS, reverse=True))]
        weights = [
            None if n is None else n.weight.detach().contiguous() for n in (*norms, layer.post_attention_layernorm)
        ]
        self._kept += [*linears, *weights]
        return _Layer(*(side.struct for side in linears), *(None if w is None else w.data_ptr() for w in weights))


def packed_stack(
    library: Library,
    model: Any,
    config: Any,
    pack: Pack,
    stored: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> PackedStack | None:
    """A `PackedStack` for the layers of `model`, if it computes what they do; else None.

    Args:
        model: of transformers, with `layers` and `rotary_emb`.
        stored: see `agrees`.
    """
    layers = list(model.layers)
    if not (is_known(model, "Model") and all(fits(layer, layers[0], library.wide // 2) for layer in layers)):
        return None
    stack = PackedStack(library, layers, config, pack)
    return stack if stack.agrees(model.rotary_emb, stored) else None


def fits(layer: Any, first: Any, lanes: int) -> bool:
    """Whether `layer` has the code and the parts that a `PackedStack` is made of, and of the sizes that `first` has.

    What the parts compute together is for a try to tell.
    """
    if not is_known(layer, "DecoderLayer") or layer.training:
        return False
    if set(layer._modules) != {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}:
        return False
    attention, mlp = layer.self_attn, layer.mlp
    if not (set(attention._modules) - NORMS == ATTENTION and set(mlp._modules) - {"act_fn"} == GATED):
        return False
    linears = [attention._modules[name] for name in sorted(ATTENTION)] + [mlp._modules[name] for name in sorted(GATED)]
    norms = [layer.input_layernorm, layer.post_attention_layernorm]
    norms += [n for n in (attention._modules.get(name) for name in NORMS) if n is not None]
    return (
        is_known(attention, "Attention")
        and is_known(mlp, "MLP")
        and all(is_known(norm, "RMSNorm") for norm in norms)
        and all(type(side) is torch.nn.Linear and side.weight.dtype in WIDER for side in linears)
        and len({side.weight.dtype for side in (*linears, *norms)}) == 1
        and len({side.bias is None for side in (attention.q_proj, attention.k_proj, attention.v_proj)}) == 1
        and (mlp.gate_proj.bias is None) == (mlp.up_proj.bias is None)
        and mlp.gate_proj.out_features % lanes == 0
        and _sizes(layer) == _sizes(first)
        and {norm.variance_epsilon for norm in norms} == {first.input_layernorm.variance_epsilon}
        and getattr(attention, "sliding_window", None) is None
        and _is_silu(mlp.act_fn)
    )


def _is_silu(activation: Any) -> bool:
    """Tried for itself: between small weights it is lost in the rounding of a layer."""
    x = torch.linspace(-30, 30, 2001)
    return torch.allclose(activation(x), torch.nn.functional.silu(x), rtol=1e-5, atol=1e-7)


def _computed(
    layer: torch.nn.Module,
    hidden: torch.Tensor,
    positions: tuple[torch.Tensor, torch.Tensor],
    stored: Callable[[torch.Tensor], torch.Tensor] | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """What `layer` gives with its weights, and all numbers between, in `dtype`."""
    weights = {
        name: (stored(weight) if stored and weight.dim() > 1 else weight).to(dtype)
        for name, weight in layer.named_parameters()
    }
    cosines, sines = (side.to(dtype) for side in positions)
    asked = {"attention_mask": None, "position_embeddings": (cosines, sines)}
    result: torch.Tensor = torch.func.functional_call(layer, weights, (hidden.to(dtype),), asked)
    return result


def _sizes(layer: Any) -> list[object]:
    attention = layer.self_attn
    shapes = [(side.in_features, side.out_features) for side in (attention.q_proj, attention.k_proj, attention.v_proj)]
    return [
        *shapes,
        layer.mlp.gate_proj.weight.shape,
        attention.head_dim,
        attention.scaling,
        "q_norm" in attention._modules,
    ]


def _woven(sides: Sequence[torch.Tensor], lanes: int) -> torch.Tensor:
    """`lanes` rows of the first, `lanes` of the second, and so on."""
    return torch.stack([side.reshape(-1, lanes, *side.shape[1:]) for side in sides], 1).flatten(0, 2)


def _cat(sides: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    present = [side for side in sides if side is not None]
    return torch.cat(present) if present else None
