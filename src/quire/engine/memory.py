"""How much room for suffixes there is when nobody has said how much there should be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from quire.errors import InvalidSetting
from quire.model import KVSpace
from quire.model.kv import GRAIN

if TYPE_CHECKING:
    from quire.model import LoadedModel

SHARE = 4  # of the memory that is free, suffixes get one part: documents, activations and other programs need some too


def suffix_space(model: LoadedModel, asked: int, max_sequences: int) -> KVSpace:
    """The space for `asked` tokens; 0: for what `SHARE` says, but no more than `max_sequences` full contexts.

    Raises:
        InvalidSetting: there is not as much memory.
    """
    tokens = asked or chosen_tokens(
        available_bytes(model.device), model.geometry.bytes_per_token, max_sequences * model.max_positions
    )
    try:
        return KVSpace(model.geometry, tokens, device=model.device)
    except RuntimeError as error:
        size = tokens * model.geometry.bytes_per_token
        raise InvalidSetting(
            f"engine.suffix_tokens is {tokens:,}, which takes {size:,} bytes, and they are not to be had",
            hint="choose fewer; 0 means a quarter of the memory that is free",
        ) from error


def chosen_tokens(available: int, bytes_per_token: int, most: int) -> int:
    """Tokens for the share of `available` bytes, at least one grain, up to `most`."""
    return max(GRAIN, min(available // SHARE // bytes_per_token, most))


def available_bytes(device: torch.device) -> int:
    """Memory that is free now on `device`; on a CPU what the system and this process's control group leave."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(_system_bytes(Path("/proc/meminfo")), _group_bytes(Path("/sys/fs/cgroup")))


def _system_bytes(meminfo: Path) -> int:
    """MemAvailable of Linux; elsewhere half of what is built in."""
    try:
        lines = dict(line.split(":") for line in meminfo.read_text(encoding="ascii").splitlines())
        return int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _group_bytes(group: Path) -> int:
    """What a container may still take (cgroup v2), without bound where there is none."""
    try:
        return max(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()), 0)
    except (OSError, ValueError):  # no such group, or "max"
        return 1 << 62
