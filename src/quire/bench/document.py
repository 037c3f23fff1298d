"""What the benchmark reads and what it asks."""

from __future__ import annotations

import json
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quire.errors import InvalidSetting, SourceMalformed, SourceNotFound, SourceUnreadable

CHECKOUT_DOCUMENT = Path(__file__).parents[3] / "tests" / "data" / "long" / "lighthouse.md"
GENERAL_QUESTIONS = (
    "What is this document about?",
    "Which numbers does the document give?",
    "Who or what is named first?",
    "Summarize the last part in one sentence.",
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A document as a source in the benchmark's own directory, and the questions to it."""

    name: str
    source: Path
    questions: tuple[str, ...]


def read_subject(document: Path | None, article: str | None, questions: int, work: Path) -> Subject:
    """Bring the document into `work` and choose up to `questions` of its questions, evenly spaced.

    Args:
        document: text, markdown or another source with an optional ``NAME.questions.toml`` beside it; or a JSON file
            of the SQuAD format (Rajpurkar et al. 2016). None: the long document of a checkout.
        article: title of the SQuAD article; None: the first.

    Raises:
        SourceNotFound, SourceUnreadable, SourceMalformed; InvalidSetting for an article that is not there.
    """
    path = document or CHECKOUT_DOCUMENT
    if not path.is_file():
        raise SourceNotFound(f"expected a document at {path}, found none", hint="name one with --document FILE")
    squad = _articles(_json(path), path) if path.suffix.lower() == ".json" else []
    if squad:
        name, text, asked = _chosen(squad, article, path)
        source = work / "article.md"
        source.write_text(f"# {name}\n\n{text}\n", encoding="utf-8")
        return Subject(name, source, _spread(asked, questions))
    if article is not None:
        raise InvalidSetting(f"--article is for SQuAD files, {path} is none", hint="leave it out")
    source = work / path.name
    try:
        shutil.copyfile(path, source)
    except OSError as error:
        raise SourceUnreadable(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from error
    return Subject(path.name, source, _spread(_questions_beside(path), questions))


Article = tuple[str, str, list[str]]


def _articles(content: Any, path: Path) -> list[Article]:
    """Title, text and questions of each article; empty for JSON that is not in SQuAD's format."""
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, list):
        return []
    try:
        return [
            (
                str(article["title"]),
                "\n\n".join(str(paragraph["context"]).strip() for paragraph in article["paragraphs"]),
                [str(qa["question"]).strip() for paragraph in article["paragraphs"] for qa in paragraph["qas"]],
            )
            for article in data
        ]
    except (KeyError, TypeError) as error:
        raise SourceMalformed(
            f"{path}: expected articles of the SQuAD format, found one without {error}",
            hint="each has a title and paragraphs of context and qas",
        ) from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise SourceUnreadable(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise SourceMalformed(f"{path} is not valid JSON: {error}", hint="correct the file") from error


def _chosen(articles: list[Article], title: str | None, path: Path) -> Article:
    chosen = [a for a in articles if title is None or a[0].casefold() == title.casefold()]
    if not chosen:
        titles = ", ".join(a[0] for a in articles[:10])
        raise InvalidSetting(f"no article {title!r} in {path}", hint=f"it has {titles}")
    return chosen[0]


def _questions_beside(path: Path) -> list[str]:
    beside = path.with_name(f"{path.stem}.questions.toml")
    if not beside.is_file():
        return list(GENERAL_QUESTIONS)
    try:
        return [str(question["text"]) for question in tomllib.loads(beside.read_text(encoding="utf-8"))["question"]]
    except OSError as error:
        raise SourceUnreadable(f"{beside} cannot be read: {error.strerror}", hint="check its permissions") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise SourceMalformed(
            f"{beside}: expected [[question]] tables with a text, found {error}", hint="correct the file"
        ) from error


def _spread(questions: list[str], count: int) -> tuple[str, ...]:
    different = [q for q in dict.fromkeys(questions) if q.strip()] or list(GENERAL_QUESTIONS)
    count = min(count, len(different))
    return tuple(different[i * len(different) // count] for i in range(count))
