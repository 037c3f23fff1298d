"""A table of made-up modules with rules, hints, examples and texts, and questions to it. The same every time.

Words are drawn by Zipf's law from 20,000 made of syllables, so that some are in most modules and most in few, as in
real text. A twentieth of the questions is pasted text of some hundred words.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import accumulate

from quire.core import ModuleSpec, RouteSpec, Scope
from quire.router import Described, Hints

SYLLABLES = ("ba", "den", "kor", "li", "mar", "no", "pel", "ri", "sun", "ta", "ver", "zo", "an", "er", "il", "ost")
WORDS = 20_000
SCOPES = (Scope("public"), Scope("tenant", "acme"), *(Scope("workspace", f"acme/w{i}") for i in range(8)))
SHARES = (20, 60, *([2.5] * 8))  # percent of the modules
EXAMPLES = 8
PASSAGES = 3
PASTED = 0.05


@dataclass(frozen=True, slots=True)
class MadeUp:
    """What the benchmark routes: modules, and questions with hints."""

    modules: list[Described]
    questions: list[tuple[str, Hints]]


def make_up(modules: int, rules: int, questions: int) -> MadeUp:
    """`modules` of which the first `rules` have keywords and patterns, and `questions`."""
    draw = random.Random(20)  # noqa: S311 - the same table every time
    words = sorted({"".join(draw.choices(SYLLABLES, k=draw.randint(2, 4))) for _ in range(WORDS * 2)})
    draw.shuffle(words)
    words = words[:WORDS]
    frequent = list(accumulate(1 / (rank + 3) for rank in range(len(words))))

    def sentence(length: int, own: list[str]) -> str:
        said = draw.choices(words, cum_weights=frequent, k=length)
        for at in range(0, length, 4):
            said[at] = draw.choice(own)
        return " ".join(said)

    described: list[Described] = []
    for number in range(modules):
        own = draw.sample(words, 12)
        route = RouteSpec(
            intents=(f"intent-{number % 500}",),
            products=(f"product-{number % 97}",),
            metadata=(("channel", (f"channel-{number % 31}",)),),
            examples=tuple(sentence(draw.randint(6, 14), own) for _ in range(EXAMPLES)),
            keywords=(own[0], own[1], f"{own[2]} {own[3]}") if number < rules else (),
            patterns=_patterns(draw, number, own) if number < rules else (),
        )
        text = "\n\n".join(f"# {own[0]}\n\n{sentence(100, own)}" for _ in range(PASSAGES))
        (scope,) = draw.choices(SCOPES, SHARES)
        spec = ModuleSpec(f"module-{number}", ("x.md",), None, " ".join(own[:3]), "acme", scope, route)
        described.append(Described(spec, (text,)))
    asked: list[tuple[str, Hints]] = []
    for _ in range(questions):
        own = draw.choice(described).spec.route.examples[0].split()
        length = draw.randint(100, 400) if draw.random() < PASTED else draw.randint(4, 30)
        hints = Hints(intent=f"intent-{draw.randrange(600)}", metadata=(("channel", f"channel-{draw.randrange(40)}"),))
        asked.append((sentence(length, own) + "?", hints))
    return MadeUp(described, asked)


def _patterns(draw: random.Random, number: int, own: list[str]) -> tuple[str, ...]:
    """One or two expressions as people write them; every fiftieth has no literal that it needs."""
    kinds = (
        rf"\b{own[4]}(s|ed|ing)?\b",
        rf"\b(?:{own[5]}|{own[6]})\s+{own[7]}\b",
        rf"\b{own[8].upper()}-\d{{3,5}}\b",
        rf"/v\d+/{own[9]}\w*",
        rf"{own[10]}.{{0,20}}{own[11]}",
    )
    chosen = draw.sample(kinds, draw.randint(1, 2))
    return (*chosen, rf"\b\d{{{3 + number % 5}}}\b") if number % 50 == 0 else tuple(chosen)
