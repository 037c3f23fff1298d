"""Which reader a file name calls for."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal

Kind = Literal["markdown", "text", "html", "pdf", "json", "yaml", "code"]

_KINDS: dict[str, Kind] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".mdx": "markdown",
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".adoc": "text",
    ".org": "text",
    ".log": "text",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
}

# Names are those of GitHub Linguist, which models have seen on fences. Tables stand here for their tabs.
_LANGUAGES = {
    ".bash": "bash", ".bat": "batch", ".c": "c", ".cc": "cpp", ".cfg": "ini", ".clj": "clojure",
    ".conf": "conf", ".cpp": "cpp", ".cs": "csharp", ".css": "css", ".csv": "csv", ".cu": "cuda",
    ".dart": "dart", ".diff": "diff", ".erl": "erlang", ".ex": "elixir", ".exs": "elixir",
    ".f90": "fortran", ".fs": "fsharp", ".go": "go", ".gql": "graphql", ".gradle": "gradle",
    ".graphql": "graphql", ".groovy": "groovy", ".h": "c", ".hcl": "hcl", ".hpp": "cpp", ".hs": "haskell",
    ".ini": "ini", ".java": "java", ".jl": "julia", ".js": "javascript", ".jsonl": "jsonl",
    ".jsx": "jsx", ".kt": "kotlin", ".less": "less", ".lua": "lua", ".m": "objective-c", ".mjs": "javascript",
    ".ml": "ocaml", ".ndjson": "jsonl", ".nix": "nix", ".patch": "diff", ".php": "php", ".pl": "perl",
    ".properties": "properties", ".proto": "protobuf", ".ps1": "powershell", ".py": "python",
    ".pyi": "python", ".r": "r", ".rb": "ruby", ".rs": "rust", ".scala": "scala", ".scss": "scss",
    ".sh": "bash", ".sql": "sql", ".svelte": "svelte", ".swift": "swift", ".tex": "tex", ".tf": "hcl",
    ".toml": "toml", ".ts": "typescript", ".tsv": "tsv", ".tsx": "tsx", ".vue": "vue", ".xml": "xml",
    ".yaml": "yaml", ".yml": "yaml", ".zig": "zig",
}  # fmt: skip
_NAMES = {"CMakeLists.txt": "cmake", "Dockerfile": "dockerfile", "Makefile": "makefile"}


def kind_of(name: str) -> Kind | None:
    """The reader for a file called `name`, or None for a name that says nothing."""
    path = PurePath(name)
    suffix = path.suffix.lower()
    if path.name in _NAMES:
        return "code"
    return _KINDS.get(suffix) or ("code" if suffix in _LANGUAGES else None)


def language_of(name: str) -> str:
    """The word that stands on the fence around the code of a file called `name`; "" if unknown."""
    path = PurePath(name)
    return _NAMES.get(path.name) or _LANGUAGES.get(path.suffix.lower(), "")
