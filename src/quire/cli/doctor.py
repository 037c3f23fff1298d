"""`quire doctor`: what this machine can do, what it lacks, and the next step for each lack."""

from __future__ import annotations

import os
import resource
import shutil
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from rich.markup import escape

from quire.cli.opening import open_settings, silence_libraries
from quire.cli.options import JsonOption, ProjectOption
from quire.cli.screen import Screen, size, table
from quire.errors import MachineLacks, ProjectNotFound, QuireError
from quire.settings import load_settings

if TYPE_CHECKING:
    from quire.model import Arithmetic, ModelSource
    from quire.settings import Settings

State = Literal["ok", "advice", "lack"]
COLOURS: dict[State, str] = {"ok": "green", "advice": "yellow", "lack": "red"}
DESCRIPTORS = 4096  # open files for which two a module, connections and the model's own are enough
REACH_SECONDS = 2.0
MODEL_DISK = 400 << 20  # of the built-in model: its download and, beside it, what is converted from that


@dataclass(frozen=True, slots=True)
class Finding:
    """One row. `advice`: it runs, and could run better. `lack`: something that is needed is not there."""

    about: str
    state: State
    found: str
    next: str = ""


def doctor(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Say what this machine can do, what it lacks, and the next step for each lack. Downloads nothing.

    It compiles the kernels where that was not done yet (a few seconds). It works outside a project too. Exits with 19
    where something that is needed is not there; advice alone is no error.
    """
    screen = Screen(as_json=as_json)
    with screen.waiting("looking at this machine"):
        found = examine(project)
    rows = table("", "", "found", "next step")
    for one in found:
        rows.add_row(one.about, f"[{COLOURS[one.state]}]{one.state}[/]", escape(one.found), escape(one.next))
    lacks = [one.about for one in found if one.state == "lack"]
    screen.show({"findings": [asdict(one) for one in found], "ready": not lacks}, rows)
    if lacks:
        raise MachineLacks(f"this machine lacks something: {', '.join(lacks)}", hint="see the next step of each")


def examine(project: Path | None) -> list[Finding]:
    """All findings, in the order in which a lack of one explains the next."""
    settings, about_project = _settings(project)
    silence_libraries()
    arithmetic, about_arithmetic = _arithmetic(settings)
    source, about_model = _model(settings)
    return [
        about_project,
        *about_arithmetic,
        _gpu(settings),
        about_model,
        _memory(settings, source, arithmetic),
        *_disks(settings, source),
        _descriptors(),
        *_services(settings),
    ]


def _settings(project: Path | None) -> tuple[Settings, Finding]:
    """Those of the project; where it has none that can be read, the defaults."""
    defaults = load_settings(None, {})
    try:
        settings = open_settings(project)
        return settings, Finding("project", "ok", f"{settings['project.name']} in {settings.root}")
    except ProjectNotFound as error:
        if project is not None:
            return defaults, Finding("project", "lack", error.message, error.hint or "")
    except QuireError as error:
        return defaults, Finding("project", "lack", error.message, error.hint or "")
    try:
        return load_settings(None, os.environ), Finding("project", "ok", "none here; what follows is for the defaults")
    except QuireError as error:
        return defaults, Finding("project", "lack", error.message, error.hint or "")


def _arithmetic(settings: Settings) -> tuple[Arithmetic | None, list[Finding]]:
    """Processor, what computes on it, and the compiler."""
    import torch

    from quire.model import choose_arithmetic, processor_name

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    level = torch.backends.cpu.get_cpu_capability()
    findings = [Finding("processor", "ok", f"{processor_name()}, {cores} cores, PyTorch computes with {level}")]
    dtype = "bfloat16" if settings["model.dtype"] == "auto" else settings["model.dtype"]
    asked = (settings["model.kernels"], settings["model.weights"], settings["model.device"], dtype)
    try:
        chosen = choose_arithmetic(*asked)
    except (QuireError, RuntimeError) as error:  # PyTorch refuses a device that is not there
        hint = error.hint if isinstance(error, QuireError) else "set model.device to cpu"
        return None, [*findings, Finding("arithmetic", "lack", str(error), hint or "")]
    state: State = "advice" if chosen.hint else "ok"
    compiler = chosen.compiler
    return chosen, [
        *findings,
        Finding("arithmetic", state, str(chosen).removesuffix(f" ({chosen.hint})"), chosen.hint or ""),
        Finding("compiler", "ok", f"{compiler.path}: {compiler.version}")
        if compiler
        else Finding("compiler", "advice", "none: our own kernels cannot be compiled", "install g++, or set CXX"),
    ]


def _gpu(settings: Settings) -> Finding:
    import torch

    from quire.model.devices import find_device

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    found = ", ".join(names) or "none"
    if settings["model.device"] != "cpu":
        try:
            find_device(settings["model.device"])
        except QuireError as error:
            return Finding("GPU", "lack", error.message, error.hint or "")
    elif names:
        return Finding("GPU", "advice", f"{found}; the model runs on the CPU", "set model.device to cuda")
    return Finding("GPU", "ok", found)


def _model(settings: Settings) -> tuple[ModelSource | None, Finding]:
    """The model if it is here, and what there is to do if it is not. Neither downloads nor converts it."""
    from quire.model import DEFAULT_MODEL, find_model

    name, home = settings.model_name, settings.model_home
    path = Path(name).expanduser()
    missing = ""
    if name == DEFAULT_MODEL and not path.exists():
        if not (home / DEFAULT_MODEL / "config.json").is_file():
            missing = f"downloads 93 MB and converts them into {home}"
    elif path.suffix == ".gguf":
        if path.is_file() and not list(home.glob(f"{path.stem}-*/config.json")):
            missing = f"converts it into {home}"
    elif not path.is_dir() and name.count("/") == 1 and not _in_hub_cache(name):
        missing = "downloads it from the Hub"
    if missing:
        return None, Finding("model", "advice", f"{name} is not here yet", f"`quire model fetch` {missing}")
    try:
        source = find_model(name, home, dtype=settings["model.dtype"], weights=settings["model.weights"])
    except QuireError as error:
        return None, Finding("model", "lack", error.message, error.hint or "")
    facts = source.facts
    context = f"a context of {facts.max_positions:,} tokens"
    return source, Finding("model", "ok", f"{facts.name} in {source.dtype}, {context}, in {source.directory}")


def _in_hub_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:  # no name of the Hub: reading the model says so
        return True


def _memory(settings: Settings, source: ModelSource | None, arithmetic: Arithmetic | None) -> Finding:
    """Free memory against the weights, once as they are and once packed, and the KV of one full context."""
    import torch

    from quire.engine.memory import available_bytes

    free = available_bytes(torch.device("cpu"))
    if source is None:
        return Finding("memory", "ok", f"{size(free)} free")
    copies = 1 if arithmetic is None or arithmetic.name == "torch" else 3 if arithmetic.name == "float32" else 2
    weights = copies * sum(file.stat().st_size for file in source.directory.glob("*.safetensors"))
    context = _context_bytes(source)
    found = f"{size(free)} free; the model takes {size(weights)}, a full context {size(context)}"
    if free < weights:
        return Finding("memory", "lack", found, "end other programs, or choose a smaller model")
    if free < weights + context:
        return Finding("memory", "advice", found, "keep modules and conversations short, or end other programs")
    return Finding("memory", "ok", found)


def _disks(settings: Settings, source: ModelSource | None) -> list[Finding]:
    """The store against the KV of a full context, and the home of models against a model that is yet to come."""
    return [
        _disk("store", settings.state, _context_bytes(source) if source else 0, "set store.path to another disk"),
        _disk("model home", settings.model_home, 0 if source else MODEL_DISK, "set model.home to another disk"),
    ]


def _disk(about: str, directory: Path, needed: int, next_step: str) -> Finding:
    from quire.store import file_system_of

    there = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Finding(about, "lack", f"{directory}: {error.strerror}", next_step)
    system = file_system_of(there)
    found = f"{directory}: {size(free)} free, {system.kind or 'unknown'}" + (
        f"; needs {size(needed)}" if needed else ""
    )
    if not there.is_dir():
        return Finding(about, "lack", f"{there} is no directory", next_step)
    if not os.access(there, os.W_OK):
        return Finding(about, "lack", f"{found}; not writable", next_step)
    if free < needed:
        return Finding(about, "lack", found, f"free some space, or {next_step}")
    if system.is_network:
        where = f"{found}, a network file system: locks may fail, changes by others show late"
        return Finding(about, "advice", where, f"{next_step}, a local one")
    return Finding(about, "ok", found)


def _context_bytes(source: ModelSource) -> int:
    return source.facts.max_positions * source.facts.geometry.bytes_per_token


def _descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    words = [str(limit) if limit != resource.RLIM_INFINITY else "unlimited" for limit in (soft, hard)]
    found = f"{words[0]} open files, at most {words[1]}"
    if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS:
        raise_it = f"`ulimit -n {DESCRIPTORS}`: every open module and every connection takes one"
        return Finding("descriptors", "advice", found, raise_it)
    return Finding("descriptors", "ok", found)


def _services(settings: Settings) -> list[Finding]:
    """What is configured beside this machine, and whether it answers."""
    findings = []
    if url := settings["registry.url"]:
        findings.append(_answers("PostgreSQL", url, 5432, "registry.url"))
    if url := settings["redis.url"]:
        findings.append(_answers("Redis", url, 6379, "redis.url"))
    if settings["store.url"]:
        findings.append(_object_store(settings))
    return findings


def _answers(about: str, url: str, port: int, setting: str) -> Finding:
    """Whether something listens at the address of `url`, whose password is in no message."""
    parts = urlsplit(url)
    if parts.scheme == "unix" or not parts.hostname:
        return Finding(about, "ok", f"a socket of this machine, by {setting}")
    place = f"{parts.hostname}:{parts.port or port}"
    try:
        with socket.create_connection((parts.hostname, parts.port or port), timeout=REACH_SECONDS):
            return Finding(about, "ok", f"{place} listens")
    except OSError as error:
        reason = error.strerror or str(error)
        return Finding(about, "lack", f"{place}: {reason}", f"start it, or correct {setting}")


def _object_store(settings: Settings) -> Finding:
    from quire.store.objects import Objects

    try:
        objects = Objects(settings["store.url"], endpoint=settings["store.endpoint"], timeout=REACH_SECONDS)
        objects.read("artifacts/doctor", 0, 1)
    except QuireError as error:
        return Finding("object store", "lack", error.message, error.hint or "check store.url and store.endpoint")
    return Finding("object store", "ok", f"{settings['store.url']} answers")
