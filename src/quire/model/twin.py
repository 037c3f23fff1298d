"""Copies of a transformers model that share its parameters: with other arithmetic, or with fewer layers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from quire.model.backends import Backend


def twin(model: Any, backend: Backend, attention: str) -> Any:
    """A copy of a transformers model that shares its parameters, with linear layers and attention of `backend`.

    Args:
        attention: name in transformers' attention interface that the copy's layers call.
    """
    config = copy.deepcopy(model.config)
    config._attn_implementation = attention
    done: dict[int, torch.nn.Module] = {}  # a layer that stands in two places is packed once
    return _copied(model, backend, config, done)


def shortened(model: Any, layers: int) -> Any:
    """A copy of a transformers model that shares its parameters and has its first `layers` decoder layers only."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = layers
    return _shortened(model, model.config.num_hidden_layers, layers, config)


def _shortened(module: torch.nn.Module, depth: int, layers: int, config: Any) -> torch.nn.Module:
    other = copy.copy(module)
    other._modules = {
        name: torch.nn.ModuleList(child[:layers])
        if isinstance(child, torch.nn.ModuleList) and len(child) == depth
        else child and _shortened(child, depth, layers, config)
        for name, child in module._modules.items()
    }
    if getattr(module, "config", None) is not None:
        other.config = config
    return other


def _copied(
    module: torch.nn.Module, backend: Backend, config: Any, done: dict[int, torch.nn.Module]
) -> torch.nn.Module:
    if id(module) not in done:
        if type(module) is torch.nn.Linear:
            done[id(module)] = backend.linear(module)
        elif type(module).__name__.endswith("RMSNorm"):
            done[id(module)] = backend.norm(module)
        else:
            whole = backend.whole(module, config)
            other = copy.copy(module)
            other._modules = {
                name: whole.get(name) or (child and _copied(child, backend, config, done))
                for name, child in module._modules.items()
            }
            if getattr(module, "config", None) is not None:
                other.config = config
            done[id(module)] = other
    return done[id(module)]
