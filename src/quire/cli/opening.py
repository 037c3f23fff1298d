"""From --project to what a command works on. The model's libraries are imported by `open_project` alone."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quire.coordination import Notices, open_redis
from quire.registry import Registry
from quire.settings import BY_NAME, PROJECT_FILE, REGISTRY_FILE, Settings, find_project, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quire.cli.screen import Screen
    from quire.project import Project


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What can be read without a model."""

    settings: Settings
    registry: Registry


def open_settings(directory: Path | None) -> Settings:
    """Settings of the project at or above `directory`, or of a store there that has no project file.

    Raises:
        ProjectNotFound, InvalidSetting, UnknownSetting.
    """
    here = (directory or Path.cwd()).resolve()
    if not (here / PROJECT_FILE).is_file():
        for root, store in ((here.parent, here.name), (here, str(BY_NAME["store.path"].default))):
            if (root / store / REGISTRY_FILE).is_file() and not (root / PROJECT_FILE).is_file():
                return load_settings(None, {"QUIRE_STORE_PATH": store, **os.environ}, root=root)
    return load_settings(find_project(here), os.environ)


@contextmanager
def open_catalogue(directory: Path | None) -> Iterator[Catalogue]:
    """Settings and registry, closed at the end.

    Raises:
        What `open_settings` raises; RegistryError.
    """
    settings = open_settings(directory)
    with Registry.open(settings.registry_place, heads=settings.state) as registry:
        if settings["redis.url"]:
            registry.audit.listen(Notices(open_redis(settings["redis.url"], settings["redis.prefix"])).tell)
        yield Catalogue(settings, registry)


@contextmanager
def open_project(directory: Path | None, screen: Screen, *, outlasts_registry: bool = False) -> Iterator[Project]:
    """The project with all that computes, closed at the end. Says what is slow the first time.

    `outlasts_registry`: for who goes on for long; see `Project`.

    Raises:
        What `open_settings` raises; RegistryError.
    """
    settings = open_settings(directory)
    with screen.waiting("loading PyTorch and transformers"):
        silence_libraries()
        from quire.project import Project

    with Project(settings, say=screen.note, outlasts_registry=outlasts_registry) as project:
        yield project


def silence_libraries() -> None:
    """Keep transformers' bars and advice off the terminal, where our own output stands."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
