"""Quire compiles static knowledge into transformer KV once and answers every question from it.

The names below are imported when they are first used: PyTorch takes seconds to load, and `quire ls` needs none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quire.answering import Answer
    from quire.compiler import BuildReport, Comparison, ModulePlan
    from quire.core import Delta, ModuleRef, Sampling, Turn, Usage
    from quire.errors import QuireError
    from quire.pool import Restored
    from quire.project import Project, open_project

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "BuildReport",
    "Comparison",
    "Delta",
    "ModulePlan",
    "ModuleRef",
    "Project",
    "QuireError",
    "Restored",
    "Sampling",
    "Turn",
    "Usage",
    "__version__",
    "open_project",
]

_HOMES = {
    "quire.answering": ("Answer",),
    "quire.compiler": ("BuildReport", "Comparison", "ModulePlan"),
    "quire.core": ("Delta", "ModuleRef", "Sampling", "Turn", "Usage"),
    "quire.errors": ("QuireError",),
    "quire.pool": ("Restored",),
    "quire.project": ("Project", "open_project"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name from its home (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'quire' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
