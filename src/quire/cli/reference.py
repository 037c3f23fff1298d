"""Writes the pages of docs that say what the code says: `python -m quire.cli.reference [DOCS]`.

cli.md from the commands, settings.md from SETTINGS, metrics.md from FIGURES.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from quire import errors
from quire.gateway.figures import page as metrics_page
from quire.settings import LIMIT_KEYS, MAX_CPU_ISA, MODULE_KEYS, PROJECT_FILE, ROUTE_KEYS, SETTINGS, Setting

GENERATED = "<!-- Written by `make docs`. Change the commands or the settings, not this page. -->"

MODULE_HELP = {
    "title": "what people and the layout call it; default: its name",
    "sources": "files, directories or patterns, relative to the project; required",
    "parent": "the module it is compiled behind",
    "acl": "who may read it: `public`, `tenant:T`, `workspace:T/W`, `user:T/U`; default: the project's tenant",
    "ttl": "how long a version may answer after it was built or renewed, as in `30d` (units s, m, h, d, w); default: "
    "without end. [invalidation.md](invalidation.md) says more",
    "stale": "what it does while its sources say something else: `serve` (the default; its answers carry a warning), "
    "`fallback` (questions are answered as not covered) or `refuse` (they are an error)",
    "golden": "files of golden tests that a version must pass before it goes live ([lifecycle.md](lifecycle.md)); "
    "default: `golden/NAME.yaml`, if it is there",
    "route": "table of what leads here; [routing.md](routing.md) explains it",
}
ROUTE_HELP = {
    "intents": "values of `intent` in a request that lead here",
    "products": "the same for `product`",
    "states": "the same for `state`, of the caller's workflow",
    "metadata": "table: names of `metadata` in a request, each with the value or values that lead here",
    "keywords": "whole words or phrases that a question may contain; letter case does not count",
    "patterns": "regular expressions that are searched in the question; letter case does not count",
    "when": "table: names of `metadata`, each with the value or values that the rules need; alone: a rule by itself",
    "priority": "integer; higher goes first, then more matches, then the order of declaration",
    "examples": "questions that belong here; the classifier is trained on them",
    "summary": "what it is about, in a few sentences, for the semantic stage; default: taken from the sources",
}
LIMIT_HELP = {
    "requests_per_minute": "requests that may begin in a minute",
    "tokens_per_minute": "tokens computed in a minute: of questions and answers, not those of modules",
    "concurrent_requests": "requests under way at once",
    "monthly_tokens": "tokens computed in a calendar month, in UTC, over all servers on one registry",
    "priority": "`low`, `normal` or `high`: each has four times the share of the one before, when there is not enough",
}


def commands() -> dict[str, Any]:
    """Every command by its full name, ``model show`` and the like included, in the order of `quire --help`."""
    from quire.cli.main import app

    return dict(_commands(typer.main.get_command(app), ""))


def _commands(command: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, child in command.commands.items():
        if hasattr(child, "commands"):
            yield from _commands(child, f"{prefix}{name} ")
        elif not child.hidden:
            yield prefix + name, child


def cli_page() -> str:
    """docs/cli.md."""
    parts = [
        "# The command line",
        GENERATED,
        "Results go to standard output; notes, progress and errors go to standard error. With `--json` a command "
        "prints one JSON value and no notes, and an error is one line on standard error: "
        '`{"error": {"code", "message", "hint", "exit_code"}}`. `quire bench restore` is the exception: its `--json` '
        "names a file. `quire --install-completion` teaches the shell the commands and the names of the modules.",
        "`--project DIR` takes a directory at or below a `quire.toml`, or the directory of a store that `quire "
        "compile` wrote to, which needs no project file: settings then come from `QUIRE_*` variables alone.",
        *_exit_codes(),
    ]
    for name, command in commands().items():
        parts += _command(name, command)
    return "\n\n".join(parts) + "\n"


def settings_page() -> str:
    """docs/settings.md."""
    parts = [
        "# Settings",
        GENERATED,
        f"Settings stand in `{PROJECT_FILE}`, in the section before the dot. A variable of the environment overrides "
        "the file: `QUIRE_` and the name in capitals, with the dot as an underscore (`QUIRE_MODEL_PATH` for "
        "`model.path`). Unknown keys, unknown `QUIRE_` variables and wrong types are errors.",
        f"`{MAX_CPU_ISA}` keeps our own kernels to an older instruction set than the processor has (AVX2, AVX512, "
        "AVX512_BF16 or AMX), as `ONEDNN_MAX_CPU_ISA` and `ATEN_CPU_CAPABILITY` do PyTorch: to try here what an older "
        "machine computes. It is no setting.",
        "\n".join(["| setting | default | what it is |", "|---|---|---|", *map(_setting, SETTINGS)]),
        "## Modules",
        "Each module is a table `[modules.NAME]`. NAME is made of lower-case letters, digits, dots, dashes and "
        "underscores.",
        _keys(MODULE_KEYS, MODULE_HELP),
        "`[modules.NAME.route]` has what leads to a module:",
        _keys(ROUTE_KEYS, ROUTE_HELP),
        "## Limits",
        "`[limits.default]` says what each tenant may use of the server, `[limits.tenants.NAME]` what one may; what "
        "that leaves out is as in the default. 0 and what is nowhere given mean no limit. See [limits.md](limits.md).",
        _keys(LIMIT_KEYS, LIMIT_HELP),
    ]
    return "\n\n".join(parts) + "\n"


def write(docs: Path) -> list[Path]:
    """Write the pages below `docs`; gives those that changed. Mutates the directory."""
    changed = []
    for name, text in (("cli.md", cli_page()), ("settings.md", settings_page()), ("metrics.md", metrics_page())):
        path = docs / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


_OWN_CODES: dict[type[errors.QuireError], str] = {
    errors.BuildInterrupted: "a build was interrupted",
    errors.NotConfirmed: "a change is made, but not every server has said that it follows it",
}


def _exit_codes() -> list[str]:
    """One row per branch of the error tree, and one per leaf with a code of its own."""
    tree = re.findall(r"^    [├└]── (\w+) {2,}(.*)$", errors.__doc__ or "", re.MULTILINE)
    told = dict(tree)
    rows = ["| code | means |", "|---|---|", "| 0 | done |", "| 1 | stopped, or a defect of Quire |"]
    for branch in errors.QuireError.__subclasses__():
        leaves = branch.__subclasses__()
        names = ", ".join(f"`{leaf.__name__}`" for leaf in leaves if leaf.exit_code == branch.exit_code)
        about = f" {told[branch.__name__]}:" if branch.__name__ in told else ""
        usage = " a wrong option or argument;" if branch is errors.SettingsError else ""
        rows.append(f"| {branch.exit_code} |{usage}{about} `{branch.__name__}`: {names} |")
        own = [leaf for leaf in leaves if leaf.exit_code != branch.exit_code]
        rows += [f"| {leaf.exit_code} | {_OWN_CODES[leaf]}: `{leaf.__name__}` |" for leaf in own]
    return ["## Exit codes", "\n".join(rows)]


def _command(name: str, command: Any) -> list[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    usage = " ".join(
        ["quire", name, *("[OPTIONS]" for _ in options[:1]), *(a.metavar or a.name.upper() for a in arguments)]
    )
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n"))
    parts = [f"## quire {name}", text, f"    {usage}"]
    rows = [f"| `{_shown(p)}` | {_help(p)} |" for p in (*arguments, *options)]
    return [*parts, "\n".join(["| | |", "|---|---|", *rows])] if rows else parts


def _shown(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    value = (parameter.metavar or parameter.name.upper()).replace("|", "\\|")
    return names if _is_flag(parameter) else f"{names} {value}"


def _help(parameter: Any) -> str:
    text = (parameter.help or "").replace("|", "\\|")
    default = parameter.default
    plain = isinstance(default, str | int | float | Path) and not _is_flag(parameter)
    if plain and str(default) and parameter.show_default and "Default" not in text:
        text += f" Default: `{default}`."
    return text + (" Required." if parameter.required and parameter.param_type_name == "option" else "")


def _is_flag(parameter: Any) -> bool:
    return bool(getattr(parameter, "is_flag", False)) or isinstance(parameter.default, bool)


def _setting(setting: Setting) -> str:
    default = str(setting.default).lower() if isinstance(setting.default, bool) else f"{setting.default}"
    choices = f" ({', '.join(setting.choices)})" if setting.choices else ""
    return f"| `{setting.name}` | {f'`{default}`' if default else 'empty'} | {setting.help}{choices} |"


def _keys(keys: set[str], help_of: dict[str, str]) -> str:
    order = [key for key in help_of if key in keys] + sorted(keys - set(help_of))
    return "\n".join(["| key | what it is |", "|---|---|", *(f"| `{key}` | {help_of[key]} |" for key in order)])


if __name__ == "__main__":
    for path in write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs")):
        print(f"wrote {path}")
