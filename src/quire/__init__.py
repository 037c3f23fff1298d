"""Quire compiles static knowledge into transformer KV once and answers every question from it."""

from quire.answering import Answer
from quire.compiler import BuildReport, Comparison, ModulePlan
from quire.core import Delta, ModuleRef, Restored, Sampling, Turn, Usage
from quire.errors import QuireError
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
