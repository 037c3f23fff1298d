"""What a model is, by the bytes that decide its output."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import blake3

from quire.errors import ModelUnreadable, lack_of

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
PART = 4 << 20  # bytes of a file that are read at once
NOT_IDENTITY = {"_name_or_path", "transformers_version", "use_cache", "torch_dtype", "dtype"}


def model_fingerprint(directory: Path, dtype: str) -> str:
    """Digest of the configuration, the weights and the dtype they are computed in: ``b3:<64 hex>``.

    Raises:
        ModelUnreadable: a file is missing or cannot be read.
    """
    try:
        config = json.loads((directory / "config.json").read_bytes())
        weights = {p.name: file_digest(p) for p in sorted(directory.glob("*.safetensors"))}
    except (OSError, ValueError) as error:
        raise lack_of(error, str(directory)) or ModelUnreadable(
            f"cannot read the model in {directory}: {error}", hint="check the directory"
        ) from error
    if not weights:
        raise ModelUnreadable(
            f"no .safetensors weights in {directory}",
            hint="save the model with save_pretrained(), or name a .gguf file",
        )
    identity = {k: v for k, v in config.items() if k not in NOT_IDENTITY}
    return _digest({"config": identity, "weights": weights, "dtype": dtype})


def tokenizer_fingerprint(directory: Path) -> str:
    """Digest of the tokenizer's files: ``b3:<64 hex>``. The chat template belongs to the layout, not here.

    Raises:
        ModelUnreadable: there is none, or one cannot be read.
    """
    try:
        files = {name: file_digest(directory / name) for name in TOKENIZER_FILES if (directory / name).is_file()}
    except OSError as error:
        raise lack_of(error, str(directory)) or ModelUnreadable(
            f"cannot read the tokenizer in {directory}: {error.strerror}", hint="check the rights of its files"
        ) from error
    if not files:
        raise ModelUnreadable(f"no tokenizer files in {directory}", hint="the model directory needs its tokenizer")
    return _digest(files)


def file_digest(path: Path) -> str:
    """BLAKE3 of a file; for large ones remembered in the user's cache directory until the file is touched.

    The stamp has the time of the last change of the inode, which the system alone sets: a program that writes a file
    and puts its modification time back is noticed. `OSError` for a file that cannot be read.
    """
    path = path.resolve()
    info = path.stat()
    stamp = [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_dev, info.st_ino]
    memory = _memory_path()
    entry = _recall(memory).get(str(path))
    if isinstance(entry, list) and entry[:-1] == stamp:
        return str(entry[-1])
    hasher = blake3.blake3(max_threads=blake3.blake3.AUTO)
    with path.open("rb", buffering=0) as file:  # not mapped: it may be cut short meanwhile
        while part := file.read(PART):
            hasher.update(part)
    digest = f"b3:{hasher.hexdigest()}"
    if info.st_size >= 1 << 20:
        _remember(memory, str(path), [*stamp, digest])
    return digest


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "b3:" + blake3.blake3(text.encode()).hexdigest()


def _memory_path() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "quire" / "digests.json"


def _recall(memory: Path) -> dict[str, Any]:
    try:
        known = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}  # only a shortcut: without it the file is read again
    return known if isinstance(known, dict) else {}


def _remember(memory: Path, path: str, entry: list[Any]) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        fresh = memory.with_name(f"{memory.name}.{os.getpid()}")
        fresh.write_text(json.dumps({**_recall(memory), path: entry}))
        fresh.replace(memory)
    except OSError:
        return  # a read-only home costs time on the next start, nothing else
