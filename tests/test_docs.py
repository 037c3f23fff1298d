"""What the pages name exists, and what they show runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from quire.cli.reference import commands
from quire.cli.starting import KNOWLEDGE, PROJECT
from quire.registry import KINDS
from quire.settings import MAX_CPU_ISA, SETTINGS, load_settings

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = {setting.name for setting in SETTINGS}
SECTIONS = "|".join(sorted({name.split(".")[0] for name in NAMES}))
COMMANDS = commands()
GROUPS = {name.split()[0] for name in COMMANDS if " " in name}
NO_COMMAND = {"quire context"}  # the first bytes that a context checksum covers


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(rf"`((?:{SECTIONS})\.[a-z_]+)`", text)) - modules_of_the_package() - set(KINDS)
    assert named <= NAMES
    variables = {MAX_CPU_ISA, *("QUIRE_" + name.upper().replace(".", "_") for name in NAMES)}
    assert set(re.findall(r"\bQUIRE_[A-Z_]+[A-Z]\b", text)) <= variables


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_named_exists_with_its_options(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    shown = re.findall(r"`(quire [a-z][^`\n]*)`", text)
    shown += [line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("quire ")]
    for line in shown:
        for part in re.split(r"&&|\||#", line):
            if part.strip().startswith("quire "):
                check_command(part.strip())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.MULTILINE)
        named += [word for block in blocks(page, "sh") for word in re.findall(r"^make ([a-z-]+)", block, re.MULTILINE)]
        assert set(named) <= targets


def test_the_projects_on_the_pages_are_valid(tmp_path: Path) -> None:
    for page in PAGES:
        for number, block in enumerate(blocks(page, "toml")):
            file = tmp_path / f"{page.stem}-{number}.toml"
            file.write_text(block, encoding="utf-8")
            load_settings(file, {})


def test_every_package_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = {path.stem for path in (ROOT / "src" / "quire").iterdir() if path.name[0] not in "_."} - {"py"}
    assert {name for name in packages if f"`{name}`" not in text} == set()


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_python_examples_run(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "knowledge").mkdir()
    (tmp_path / "knowledge" / "example.md").write_text(KNOWLEDGE, encoding="utf-8")
    (tmp_path / "quire.toml").write_text(PROJECT.format(name="example"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUIRE_MODEL_PATH", str(tiny_model_dir))
    monkeypatch.setenv("QUIRE_MODEL_THREADS", "1")
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks(ROOT / "docs" / "python.md", "python")):
        exec(compile(block, f"docs/python.md, example {number + 1}", "exec"), names)
    assert "no_route" in capsys.readouterr().out


def check_command(line: str) -> None:
    words = shlex.split(line)[1:]
    name = " ".join(words[:2]) if words[0] in GROUPS and len(words) > 1 else words[0]
    if f"quire {words[0]}" in NO_COMMAND or name in GROUPS:
        return
    assert name in COMMANDS, line
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    given = {word.split("=")[0] for word in words if word.startswith("--")}
    assert given <= options, line


def modules_of_the_package() -> set[str]:
    """`model.support` on a page is a module of ours and no setting."""
    root = ROOT / "src" / "quire"
    files = [*root.glob("*/*.py"), *(inner.parent for inner in root.glob("*/*/__init__.py"))]
    return {f"{file.parent.name}.{file.stem}" for file in files}
