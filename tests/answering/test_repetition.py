"""Answers without a limit of their own, and answers in a loop, as the engine ends them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quire import Project
from quire.settings import load_settings

QUESTION = "What"  # after which the model loops


def opened(shop: Path, **engine: Any) -> Project:
    """The shop with other settings of the engine; names as in quire.toml."""
    environ = {f"QUIRE_ENGINE_{name.upper()}": str(value) for name, value in engine.items()}
    return Project(load_settings(shop / "quire.toml", environ))


def asked(project: Project, **sampling: Any) -> tuple[str | None, list[int]]:
    answer = project.ask(QUESTION, module="company", **sampling)
    text = answer.text()
    assert text == project.model.tokenizer.decode(answer.token_ids)
    return answer.finish_reason, answer.token_ids


@pytest.fixture(scope="module")
def endless(built_shop: Path) -> list[int]:
    """What the model, which loops, says where nothing ends it."""
    with opened(built_shop, repetition_tokens=0) as project:
        reason, token_ids = asked(project, max_tokens=600)
    assert reason == "length"
    return token_ids


def test_an_answer_in_a_loop_ends_and_is_the_beginning_of_the_endless_one(built_shop: Path, endless: list[int]) -> None:
    with opened(built_shop) as project:
        reason, token_ids = asked(project)
        assert reason == "repetition"
        assert 256 <= len(token_ids) < 600
        assert token_ids == endless[: len(token_ids)]
        assert asked(project, max_tokens=600) == (reason, token_ids)
        assert asked(project, max_tokens=len(token_ids)) == ("length", token_ids)
        assert asked(project, max_tokens=600, ignore_eos=True) == ("length", endless)


def test_guesses_do_not_change_where_it_ends(built_shop: Path) -> None:
    ended = []
    for guesses in (0, 1, 8):
        with opened(built_shop, guesses=guesses, repetition_tokens=64) as project:
            ended.append(asked(project))
    assert ended[0][0] == "repetition"
    assert ended == [ended[0]] * 3


def test_a_sampled_answer_in_a_loop_ends_too(built_shop: Path) -> None:
    with opened(built_shop, repetition_tokens=64) as project:
        bias = ((project.model.tokenizer.words("a")[0], 100.0),)
        assert asked(project, temperature=1.0, seed=1, logit_bias=bias)[0] == "repetition"


@pytest.mark.parametrize(("limit", "tokens"), [(40, 40), (0, 700)])
def test_answers_without_a_limit_have_the_default_one(built_shop: Path, limit: int, tokens: int) -> None:
    with opened(built_shop, answer_tokens=limit, repetition_tokens=0, suffix_tokens=704) as project:
        reason, token_ids = asked(project)
        assert reason == "length"
        assert len(token_ids) == tokens if limit else len(token_ids) > 600
        assert len(asked(project, max_tokens=50)[1]) == 50


def test_the_default_limit_is_no_demand(built_shop: Path) -> None:
    """Where the room is less than the default limit the answer is as long as the room, and no error."""
    with opened(built_shop, answer_tokens=5000, repetition_tokens=0, suffix_tokens=192) as project:
        reason, token_ids = asked(project)
    assert reason == "length"
    assert 100 < len(token_ids) < 192
