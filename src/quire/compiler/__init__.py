"""From sources to registered modules.

layout, chat_layout   the prompt as an interface
planning              what has to be compiled and why
standalone            the same for one document without a project
compiling, build      doing it
reissuing, renewing   without a prefill
outputs               golden answers, old against new
verifying             restored against computed
sharing               into the object store, before anything goes live
maintenance           garbage collection, damage, repair
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from quire.compiler.chat_layout import chat_layout
from quire.compiler.layout import Layout, read_layout
from quire.compiler.maintenance import (
    Collected,
    Problem,
    collect_garbage,
    find_problems,
    forget_unrepairable,
    remove_broken,
)
from quire.compiler.planning import ModulePlan, identity_of, plan_build
from quire.compiler.sharing import share_chains
from quire.compiler.standalone import plan_standalone

if TYPE_CHECKING:
    from quire.compiler.build import BuildProgress, BuildReport, build_lock, run_build
    from quire.compiler.verifying import Comparison, compare

__all__ = [
    "BuildProgress",
    "BuildReport",
    "Collected",
    "Comparison",
    "Layout",
    "ModulePlan",
    "Problem",
    "build_lock",
    "chat_layout",
    "collect_garbage",
    "compare",
    "find_problems",
    "forget_unrepairable",
    "identity_of",
    "plan_build",
    "plan_standalone",
    "read_layout",
    "remove_broken",
    "run_build",
    "share_chains",
]

# What computes is imported when it is first used: planning alone needs no PyTorch.
_HEAVY = {
    **dict.fromkeys(("BuildProgress", "BuildReport", "build_lock", "run_build"), "quire.compiler.build"),
    **dict.fromkeys(("Comparison", "compare"), "quire.compiler.verifying"),
}


def __getattr__(name: str) -> Any:
    if name not in _HEAVY:
        raise AttributeError(f"module 'quire.compiler' has no attribute {name!r}")
    return getattr(import_module(_HEAVY[name]), name)
