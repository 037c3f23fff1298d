"""Where a model may run."""

from __future__ import annotations

import torch

from quire.errors import DeviceUnavailable


def find_device(name: str) -> torch.device:
    """The device called `name`, as PyTorch names them: cpu, cuda, cuda:1.

    Raises:
        DeviceUnavailable: there is none of that name, or PyTorch cannot use it.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceUnavailable(f"{name!r} is no device", hint="set model.device to cpu, cuda or cuda:N") from error
    if device.type == "cuda":
        _check_gpu(device)
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise DeviceUnavailable(
            f"the device {name!r} does not work: {reason:.200}", hint="set model.device to cpu"
        ) from error
    return device


def _check_gpu(device: torch.device) -> None:
    if torch.version.cuda is None and torch.version.hip is None:
        raise DeviceUnavailable(
            f"model.device is {device}, and this PyTorch ({torch.__version__}) was built without CUDA",
            hint="install PyTorch with CUDA (https://pytorch.org/get-started/locally), or set model.device to cpu",
        )
    count = torch.cuda.device_count()
    if not count:
        raise DeviceUnavailable(
            f"model.device is {device}, and PyTorch finds no GPU",
            hint="does nvidia-smi list one? check the driver and CUDA_VISIBLE_DEVICES, or set model.device to cpu",
        )
    if device.index is not None and device.index >= count:
        raise DeviceUnavailable(
            f"model.device is {device}, and there are {count} GPUs, counted from 0",
            hint="choose one that is there, e.g. cuda:0",
        )
