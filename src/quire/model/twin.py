"""The same network with other arithmetic: the plain one stays as it is, for comparison."""

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
