"""Whether the code of a model's layers is code that `decoder.h` computes: that of Llama and a few others.

A try shows what layers compute for the numbers that were tried. Code that is the same, names aside, shows that nothing
else decides: neither a position beyond those tried, nor the length of the text, nor a flag.
"""

from __future__ import annotations

import ast
import functools
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "seed_oss")  # models of transformers
ROTARY = ("apply_rotary_pos_emb", "rotate_half")  # functions that the forward pass of their attention calls


def is_known(module: torch.nn.Module, part: str) -> bool:
    """Whether `forward` of `module` is that of a `part` of the known models, as "MLP", and so is what it calls.

    Annotations, comments and docstrings do not count.
    """
    owner = next((base for base in type(module).__mro__ if "forward" in vars(base)), type(module))
    code = _code(getattr(sys.modules.get(owner.__module__), "__file__", None))
    names = (owner.__name__, *(ROTARY if part == "Attention" else ()))
    kinds = (part, *names[1:])
    return "forward" not in vars(module) and all(
        code.get(name) in _known(kind) for name, kind in zip(names, kinds, strict=True)
    )


@functools.cache
def _known(kind: str) -> frozenset[str | None]:
    """The code of the known models' classes whose names end in `kind`, or of their functions of this name."""
    specs = [find_spec(f"transformers.models.{family}.modeling_{family}") for family in FAMILIES]
    codes = [_code(spec.origin) for spec in specs if spec]
    return frozenset(code for file in codes for name, code in file.items() if name.endswith(kind))


@functools.cache
def _code(file: str | None) -> dict[str, str]:
    """By name, for what stands at the top of a Python file: `forward` of its classes, and its functions."""
    try:
        tree = ast.parse(Path(file or "").read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):  # compiled, zipped or typed at a prompt: nothing to compare
        return {}
    tops = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    found = [(top.name, node) for top in tops for node in ([top] if isinstance(top, ast.FunctionDef) else top.body)]
    return {
        name: _canonical(node)
        for name, node in found
        if isinstance(node, ast.FunctionDef) and node.name in (name, "forward")
    }


def _canonical(function: ast.FunctionDef) -> str:
    function.name, function.returns = "", None
    if ast.get_docstring(function) is not None:
        function.body = function.body[1:]
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.dump(_Unannotated().visit(function))


class _Unannotated(ast.NodeTransformer):
    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        return ast.Assign([node.target], node.value) if node.value else ast.Pass()
