"""`quire model`: what the model is, and having it on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quire.cli.opening import open_settings, silence_libraries
from quire.cli.options import JsonOption, ProjectOption
from quire.cli.screen import Screen, facts, short, size
from quire.errors import ProjectNotFound
from quire.settings import Settings, load_settings

if TYPE_CHECKING:
    from quire.model import ModelSource

app = typer.Typer(help="The model: what it is, and having it on this machine.", no_args_is_help=True)
ModelName = Annotated[
    str | None,
    typer.Argument(metavar="[MODEL]", help="A directory, .gguf file or Hub name. Default: the project's."),
]


@app.command("show")
def show(model: ModelName = None, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Show identity, geometry and context of a model. One that the engine does not compute exactly is refused by name
    of the feature."""
    screen = Screen(as_json=as_json)
    source, settings = _find(model, project, screen)
    values = _values(source)
    screen.show(
        values,
        facts(
            {
                "model": f"{values['name']} ({values['architecture']})",
                "revision": values["revision"],
                "directory": values["directory"],
                "fingerprint": short(values["fingerprint"]),
                "tokenizer": short(values["tokenizer_fingerprint"]),
                "context": f"{values['context']:,} tokens",
                "KV": f"{values['layers']} layers x {values['kv_heads']} heads x {values['head_dim']}, "
                f"{values['dtype']}: {values['bytes_per_token']:,} bytes per token",
                "a full context": size(values["bytes_per_token"] * values["context"]),
                "supported": "yes: every layer is full causal attention",
                "runs on": f"{settings['model.device']}, threads {settings['model.threads'] or 'all'}",
            }
        ),
    )


@app.command("fetch")
def fetch(model: ModelName = None, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Have a model on this machine: download and convert what is not there yet."""
    screen = Screen(as_json=as_json)
    source, _ = _find(model, project, screen)
    screen.show(_values(source), f"{source.facts.name} is in {source.directory}")


def _find(model: str | None, project: Path | None, screen: Screen) -> tuple[ModelSource, Settings]:
    try:
        settings = open_settings(project)
    except ProjectNotFound:
        if project is not None:
            raise
        settings = load_settings(None, os.environ)
    with screen.waiting("loading PyTorch and transformers"):
        silence_libraries()
        from quire.model import find_model

    with screen.waiting("reading the model"):
        name = model or settings.model_name
        return (
            find_model(name, settings.model_home, dtype=settings["model.dtype"], progress=screen.note),
            settings,
        )


def _values(source: ModelSource) -> dict[str, Any]:
    known, geometry = source.facts, source.facts.geometry
    return {
        "name": known.name,
        "architecture": source.config.model_type,
        "revision": known.revision,
        "directory": str(source.directory),
        "fingerprint": known.fingerprint,
        "tokenizer_fingerprint": known.tokenizer_fingerprint,
        "context": known.max_positions,
        "layers": geometry.layers,
        "kv_heads": geometry.kv_heads,
        "head_dim": geometry.head_dim,
        "dtype": geometry.dtype,
        "bytes_per_token": geometry.bytes_per_token,
        "rope": known.rope,
        "supported": True,
    }
