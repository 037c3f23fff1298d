"""`quire ask` and `quire chat`: questions from the keyboard, answers as they are generated."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from quire.cli.opening import open_project
from quire.cli.options import (
    JsonOption,
    MaxTokens,
    MinP,
    ModuleOption,
    ProjectOption,
    Repetition,
    Seed,
    Stop,
    Temperature,
    TopK,
    TopP,
)
from quire.cli.screen import Screen, duration
from quire.core import Turn
from quire.errors import QuireError

if TYPE_CHECKING:
    from quire.answering import Answer
    from quire.project import Project

SESSION = "chat"


def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask.")],
    module: ModuleOption = None,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    min_p: MinP = 0.0,
    repetition_penalty: Repetition = 1.0,
    seed: Seed = None,
    stop: Stop = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer one question. The answer goes to stdout, how it came about to stderr."""
    screen = Screen(as_json=as_json)
    sampling = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": tuple(stop or ()),
    }
    with open_project(project, screen) as opened:
        started(opened, screen)
        answer = opened.ask(question, module=module, **sampling)
        text = written(answer, screen)
        screen.show(answer_values(answer, text))
        screen.note(provenance(answer))


def chat(
    module: ModuleOption = None,
    max_tokens: MaxTokens = 512,
    temperature: Temperature = 0.0,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Talk: each turn computes only what is new. /quit or Ctrl-D ends it, Ctrl-C the answer.

    Without --module the rules choose who answers the first question; the conversation stays there. With --json, and
    where stdin is no terminal, each line of input is a question; each answer is one line of JSON.
    """
    screen = Screen(as_json=as_json)
    turns: list[Turn] = []
    with open_project(project, screen, outlasts_registry=True) as opened:
        started(opened, screen)
        while (question := _next_question(screen)) is not None:
            asked = [*turns, Turn("user", question)]
            try:
                answer = opened.chat(
                    asked, module=module, session=SESSION, max_tokens=max_tokens, temperature=temperature
                )
                text = written(answer, screen)
            except QuireError as error:  # the conversation goes on without this question
                screen.error(error)
                continue
            turns = [*asked, Turn("assistant", text)]
            module = answer.module.module_id if module is None else module
            if as_json:
                screen.line(answer_values(answer, text))
            screen.note(provenance(answer))


def started(project: Project, screen: Screen) -> None:
    """Load the model with a word about it, so that the wait is not taken for the answer's."""
    with screen.waiting("loading the model"):
        _ = project.runtime


def written(answer: Answer, screen: Screen) -> str:
    """Print an answer as it is generated; Ctrl-C ends it and keeps what is there. Gives its text."""
    pieces: list[str] = []
    while True:
        try:
            for delta in answer:
                pieces.append(delta.text)
                if not screen.as_json:
                    sys.stdout.write(delta.text)
                    sys.stdout.flush()
            break
        except KeyboardInterrupt:
            answer.cancel()  # the scheduler's last delta ends the loop
    if not screen.as_json:
        sys.stdout.write("\n")
        sys.stdout.flush()
    return "".join(pieces)


def answer_values(answer: Answer, text: str) -> dict[str, Any]:
    """An answer as JSON values."""
    usage = answer.usage
    return {
        "answer": text,
        "finish_reason": answer.finish_reason,
        "quire": {**answer.prepared.provenance(), "first_token_ms": round(answer.first_token_seconds * 1e3, 3)},
        "usage": {
            "prompt_tokens": usage.prompt,
            "cached_tokens": usage.cached,
            "session_tokens": reused(answer),
            "completion_tokens": usage.completion,
        },
    }


def provenance(answer: Answer) -> str:
    """Who answered, why, and what it took, on one line."""
    plan, restored, usage = answer.prepared.plan, answer.prepared.restored, answer.usage
    from_session = f", {reused(answer):,} of the session" if answer.prepared.session else ""
    return (
        f"{answer.module.ref} · {plan.stage}: {plan.reason} · {restored.tier}: {restored.tokens:,} tokens restored in "
        f"{duration(restored.seconds)}{from_session} · first token after {duration(answer.first_token_seconds)} · "
        f"{usage.prompt - usage.cached} + {usage.completion} tokens computed"
        + (" · ended: it repeated itself" if answer.finish_reason == "repetition" else "")
        + (f" · {stale['warning']}" if (stale := answer.prepared.provenance()["stale"]) else "")
    )


def reused(answer: Answer) -> int:
    """Tokens of earlier turns that were not computed again."""
    return max(answer.usage.cached - answer.prepared.restored.tokens, 0)


def _next_question(screen: Screen) -> str | None:
    """The next line that says something; None at the end."""
    while True:
        try:
            line = _prompted(screen) if sys.stdin.isatty() and not screen.as_json else sys.stdin.readline()
        except (EOFError, KeyboardInterrupt):
            return None
        if not line or line.strip() == "/quit":
            return None
        if line.strip():
            return line.strip()


def _prompted(screen: Screen) -> str:
    screen.notes.print(escape("> "), end="", style="bold")
    return input() + "\n"
