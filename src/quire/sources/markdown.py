"""Markdown and plain text. Both stay as they are; markdown may begin with YAML front matter."""

from __future__ import annotations

from quire.errors import SourceMalformed
from quire.sources.canonical import one_line
from quire.sources.document import Extract
from quire.sources.headings import find_headings
from quire.sources.opening import decode
from quire.sources.values import Value, compact_json
from quire.sources.yaml_values import parse_yaml


def read_text(data: bytes, name: str) -> Extract:
    """Plain text as it stands. Raises SourceNotText."""
    return Extract(decode(data, name), "text")


def read_markdown(data: bytes, name: str) -> Extract:
    """Markdown without its front matter; the title is the front matter's, else that of the first heading.

    Raises SourceNotText, or SourceMalformed for front matter that does not close or is not a YAML mapping.
    """
    front, text = _cut_front_matter(decode(data, name), name)
    metadata = _metadata(front, name) if front.strip() else {}
    first = next(find_headings(text.split("\n")), None)
    title = one_line(metadata.get("title", "")) or (first.title if first else "")
    return Extract(text, "markdown", title or None, metadata)


def _cut_front_matter(text: str, name: str) -> tuple[str, str]:
    """The YAML between a `---` on the very first line and the next `---` or `...`, and the text after it."""
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        return "", text
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() in ("---", "..."):
            return "\n".join(lines[1:number]), "\n".join(lines[number + 1 :])
    raise SourceMalformed(
        f"{name}: expected a line --- that closes the front matter opened on line 1, found none",
        hint="close the front matter, or put a blank line before the --- if it is meant as a rule",
    )


def _metadata(front: str, name: str) -> dict[str, str]:
    values = parse_yaml(front, f"{name}: front matter", first_line=2)
    if not isinstance(values, dict):
        raise SourceMalformed(
            f"{name}: expected front matter of the form `key: value`, found {compact_json(values)[:60]}",
            hint="put a blank line before the first --- if it is meant as a rule",
        )
    return {key: _as_text(value) for key, value in values.items()}


def _as_text(value: Value) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, str) else compact_json(value)
