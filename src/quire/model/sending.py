"""Numbers of one step on their way to the device, without anybody waiting for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np


def send(values: np.ndarray, device: torch.device, target: torch.Tensor | None = None) -> torch.Tensor:
    """`values` on `device`, in `target` if there is one. On a CPU without one: in place."""
    host = torch.from_numpy(values)
    if device.type == "cuda":
        host = host.pin_memory()  # PyTorch keeps its pages until the copy has been made
    return host.to(device, non_blocking=True) if target is None else target.copy_(host, non_blocking=True)
