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
    return _Copying(backend, attention).copied(model)


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


class _Copying:
    def __init__(self, backend: Backend, attention: str) -> None:
        self._backend = backend
        self._attention = attention
        self._done: dict[int, torch.nn.Module] = {}  # a layer that stands in two places is packed once
        self._configs: dict[int, Any] = {}  # of the model, and of parts that have their own

    def copied(self, module: torch.nn.Module) -> torch.nn.Module:
        if id(module) not in self._done:
            self._done[id(module)] = self._copied(module)
        return self._done[id(module)]

    def _copied(self, module: torch.nn.Module) -> torch.nn.Module:
        if type(module) is torch.nn.Linear:
            return _readable(self._backend.linear(module), module)
        if type(module).__name__.endswith("RMSNorm"):
            return _readable(self._backend.norm(module), module)
        other = copy.copy(module)
        if getattr(module, "config", None) is not None:
            other.config = self._config(module.config)
        whole = self._backend.whole(module, getattr(other, "config", None))
        other._modules = {
            name: whole.get(name) or (child and self.copied(child)) for name, child in module._modules.items()
        }
        return other

    def _config(self, config: Any) -> Any:
        if id(config) not in self._configs:
            self._configs[id(config)] = copy.deepcopy(config)
            self._configs[id(config)]._attn_implementation = self._attention
        return self._configs[id(config)]


def _readable(module: torch.nn.Module, plain: torch.nn.Module) -> torch.nn.Module:
    """`module` with what other code may read of the layer that it replaces, e.g. the dtype of its weight."""
    for name, value in (*vars(plain).items(), *plain._parameters.items()):
        if not name.startswith("_") and not hasattr(module, name):
            vars(module)[name] = value  # no parameter of the copy: it is the plain layer's
    return module
