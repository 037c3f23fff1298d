"""Patterns to documents: the order, what is passed over, what is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from quire.errors import QuireError, SourceEmpty, SourceNotFound, SourceNotText, SourceUnreadable
from quire.sources import collect, join

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Writes files that hold their own name."""
    root = tmp_path / "project"

    def write(*names: str) -> Path:
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"{name}\n")
        return root

    return write


def paths(root: Path, *patterns: str) -> list[str]:
    return [document.path for document in collect(root, patterns)]


def test_order_is_by_pattern_then_by_path_and_each_file_comes_once(tree: Tree) -> None:
    root = tree("docs/b.md", "docs/a/z.md", "docs/a-b.md", "docs/B.md", "z.md", "docs/é.txt")
    assert paths(root, "z.md", "docs") == ["z.md", "docs/B.md", "docs/a-b.md", "docs/a/z.md", "docs/b.md", "docs/é.txt"]
    assert paths(root, "docs/b.md", "./docs/../docs", "docs/b.md")[0] == "docs/b.md"
    assert len(paths(root, "docs", "**/*", "docs/b.md")) == 6


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("docs/*.md", ["docs/a.md", "docs/b.md"]),
        ("**/*.md", ["docs/a.md", "docs/api/v1/c.md", "docs/b.md"]),
        ("docs/**", ["docs/a.md", "docs/api/v1/c.md", "docs/b.md"]),
        ("docs/**/v?/*", ["docs/api/v1/c.md"]),
        ("docs/[!b].md", ["docs/a.md"]),
        ("docs/[a-b].md", ["docs/a.md", "docs/b.md"]),
    ],
)
def test_globs(tree: Tree, pattern: str, found: list[str]) -> None:
    assert paths(tree("docs/a.md", "docs/b.md", "docs/api/v1/c.md", "docs/.hidden/d.md"), pattern) == found


def test_a_name_with_magic_characters_can_be_named(tree: Tree) -> None:
    assert paths(tree("a[1].md", "a1.md"), "a[1].md") == ["a[1].md"]


def test_a_directory_passes_over_what_is_no_knowledge(tree: Tree) -> None:
    root = tree("a.md", ".git/config", ".env", "pkg/run.py", "LICENSE")
    (root / "logo.png").write_bytes(b"\x89PNG\0")
    (root / "pkg/__init__.py").touch()
    os.mkfifo(root / "queue")
    assert paths(root, ".") == ["LICENSE", "a.md", "pkg/run.py"]
    assert paths(root, ".env") == [".env"]


def test_a_file_named_itself_is_read_or_refused(tree: Tree) -> None:
    root = tree("a.md")
    (root / "logo.png").write_bytes(b"\x89PNG\0")
    (root / "empty.py").touch()
    with pytest.raises(SourceNotText, match=r"logo\.png"):
        collect(root, ["logo.png"])
    with pytest.raises(SourceEmpty):
        collect(root, ["empty.py"])
    (root / "empty.md").touch()
    with pytest.raises(SourceEmpty, match=r"empty\.md"):
        collect(root, ["."])


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("refund.md", "did you mean refunds.md?"),
        ("Docs/pricing.md", "did you mean docs?"),
        ("doc/*.md", "did you mean docs?"),
        ("docs/pricin*.txt", "did you mean pricing.md?"),
        ("empty", "check the pattern"),
        ("", "names all of it"),
    ],
)
def test_a_pattern_without_a_match_is_named_and_corrected(tree: Tree, pattern: str, hint: str) -> None:
    root = tree("refunds.md", "docs/pricing.md")
    (root / "empty").mkdir()
    with pytest.raises(SourceNotFound, match=re.escape(pattern or "''")) as caught:
        collect(root, [pattern])
    assert hint in caught.value.hint


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="expected a directory of sources"):
        collect(tmp_path / "nowhere", ["."])


@pytest.mark.parametrize(
    "pattern", [".", "docs", "docs/*.md", "docs/link.md", "away", "away/*.md", "away/x.md", "*/x.md"]
)
def test_no_link_leads_out_of_the_root(tree: Tree, tmp_path: Path, pattern: str) -> None:
    root = tree("docs/a.md")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/x.md").write_text("secret")
    (root / "docs/link.md").symlink_to("../../secrets/x.md")
    (root / "away").symlink_to("../secrets")
    with pytest.raises(SourceUnreadable, match="expected a file under"):
        collect(root, [pattern])


@pytest.mark.parametrize("pattern", ["..", "../secrets/x.md", "docs/../../secrets/*.md"])
def test_no_relative_pattern_leads_out_of_the_root(tree: Tree, pattern: str) -> None:
    with pytest.raises(SourceUnreadable, match="found one above it"):
        collect(tree("docs/a.md"), [pattern])


def test_an_absolute_path_may_lie_elsewhere(tree: Tree, tmp_path: Path) -> None:
    root = tree("docs/a.md")
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "x.md").write_text("x")
    assert paths(root, str(shared / "x.md"), str(root / "docs"), str(shared / "*.md")) == [
        (shared / "x.md").as_posix(),
        "docs/a.md",
    ]
    (shared / "out.md").symlink_to(root / "docs/a.md")
    with pytest.raises(SourceUnreadable, match=r"out\.md: expected a file under"):
        collect(root, [str(shared)])


def test_links_inside_are_followed_once_and_loops_end(tree: Tree) -> None:
    root = tree("docs/a.md", "other/b.md")
    (root / "docs/up").symlink_to("..")
    (root / "docs/other").symlink_to("../other")
    (root / "docs/c.md").symlink_to("a.md")
    assert paths(root, "docs") == ["docs/a.md", "docs/other/b.md"]


@pytest.mark.parametrize("target", ["nowhere", "broken.md"])
def test_a_broken_link_below_a_directory_is_named(tree: Tree, target: str) -> None:
    root = tree("docs/a.md")
    (root / "docs/broken.md").symlink_to(target)
    with pytest.raises(SourceUnreadable, match=r"docs/broken\.md: expected a file"):
        collect(root, ["docs"])


def test_the_order_the_file_system_lists_does_not_matter(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree("d/a.md", "d/b/c.md", "d/e.md")
    forward = collect(root, ["d"])
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listdir(path), reverse=True))
    assert collect(root, ["d"]) == forward


def test_joined_documents_stay_apart(tree: Tree) -> None:
    root = tree("a.md", "b.md", "c.md")
    (root / "a.md").write_text("# A\n\n```\nnever closed\n")
    (root / "b.md").write_text("---\ntitle: Second\n---\nbody\n\n\n\n")
    joined = join(collect(root, ["*.md"]))
    assert joined == "# A\n\n```\nnever closed\n```\n\n# Second\n\nbody\n\n# c.md\n\nc.md\n"
    assert join([]) == ""


def test_every_refusal_says_what_to_do(tree: Tree) -> None:
    root = tree("a.md")
    (root / "broken.md").symlink_to("nowhere")
    (root / "bad.md").write_bytes(b"\xff")
    for pattern in ("..", "nothing", "", "broken.md", "bad.md"):
        with pytest.raises(QuireError) as caught:
            collect(root, [pattern])
        assert "expected" in caught.value.message
        assert "found" in caught.value.message
