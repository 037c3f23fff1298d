"""Whether two computations of one thing differ by no more than rounding explains."""

from __future__ import annotations

import torch

WIDER = {torch.float32: torch.float64, torch.bfloat16: torch.float32, torch.float16: torch.float32}
TIMES = {  # the other's error. Half the digits are lost where both round alike, few of float32 in the order of sums.
    torch.float32: 30,
    torch.bfloat16: 3,
    torch.float16: 3,
}
STEPS = 1  # of the dtype, at the size of the result: where the other's error is small by luck


def as_exact(ours: torch.Tensor, theirs: torch.Tensor, exact: torch.Tensor) -> bool:
    """Whether each row of `ours` lies about as near to `exact` as `theirs` does.

    Args:
        ours, theirs: [rows, numbers], of the same inputs, computed in one dtype.
        exact: the same in a wider one (`WIDER`), from which their rounding errors are measured.
    """
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return False
    error, usual, size = ((side.double()).norm(dim=-1) for side in (ours - exact, theirs - exact, exact))
    return bool(
        (error <= TIMES[ours.dtype] * usual + STEPS * torch.finfo(ours.dtype).eps * size).all()
    )  # also refuses NaN
