"""From sources to registered modules.

layout, chat_layout   the prompt as an interface
family, planning      what has to be compiled and why
standalone            the same for one document without a project
compiling, build      doing it
verifying             restored against computed
maintenance           garbage collection, damage, repair
"""

from quire.compiler.build import BuildProgress, BuildReport, build_lock, run_build
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
from quire.compiler.planning import ModulePlan, plan_build
from quire.compiler.standalone import plan_standalone
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
    "plan_build",
    "plan_standalone",
    "read_layout",
    "remove_broken",
    "run_build",
]
