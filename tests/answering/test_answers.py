"""What a question gets: the right tokens, its usage, its provenance, or a refusal that says why."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from quire import Project, Turn, open_project
from quire.access import LOCAL
from quire.answering import Question
from quire.core import Sampling
from quire.errors import (
    ContextExceeded,
    EngineStopped,
    InvalidRequest,
    ModuleUnknown,
    NoLiveVersion,
    NoRoute,
    QuireError,
    VersionUnknown,
)

QUESTIONS = ["What does a bolt cost?", "When do parcels leave?", "Who buys nuts?", "日本語?", "a", "Why? " * 20]


def tokens(project: Project, text: str, module: str = "prices", **sampling: Any) -> list[int]:
    answer = project.ask(text, module=module, **({"max_tokens": 12, "ignore_eos": True} | sampling))
    answer.text()
    return answer.token_ids


@pytest.mark.parametrize("text", QUESTIONS)
@pytest.mark.parametrize("module", ["company", "prices", "shipping"])
def test_greedy_tokens_are_those_of_a_full_prefill(open_shop: Project, module: str, text: str) -> None:
    with open_shop.runtime.pool.lease(open_shop.registry.chain(open_shop.registry.live(module)), LOCAL) as lease:
        static = lease.token_ids
    prepared = open_shop.runtime.answerer.prepare(Question((Turn("user", text),), module=module), LOCAL)
    prompt = [*static, *prepared.suffix_ids]
    prepared.release()
    with open_shop.model.reference() as hf:
        expected: list[int] = []
        while len(expected) < 12:
            logits = hf(input_ids=torch.tensor([[*prompt, *expected]]), use_cache=False).logits[0, -1]
            expected.append(int(logits.argmax()))
    assert tokens(open_shop, text, module) == expected


def test_pieces_join_to_the_answer(open_shop: Project) -> None:
    answer = open_shop.ask("Why?", module="prices", max_tokens=30, ignore_eos=True, logprobs=2)
    deltas = list(answer)
    assert "".join(d.text for d in deltas) == open_shop.model.tokenizer.decode(answer.token_ids)
    assert [t for d in deltas for t in d.token_ids] == answer.token_ids
    assert [p.token_id for d in deltas for p in d.logprobs] == answer.token_ids
    assert all(len(p.top) == 2 and p.top[0][0] == p.token_id for d in deltas for p in d.logprobs)
    assert [d.finish_reason for d in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert answer.finish_reason == deltas[-1].finish_reason == "length"
    assert list(answer) == []


def test_usage_counts_chain_suffix_and_answer(open_shop: Project) -> None:
    answer = open_shop.ask("What does a bolt cost?", module="prices", max_tokens=5, ignore_eos=True)
    answer.text()
    chain = open_shop.registry.live("company").token_count + open_shop.registry.live("prices").token_count
    assert answer.usage.cached == chain == answer.prepared.restored.tokens
    assert answer.usage.prompt == chain + len(answer.prepared.suffix_ids)
    assert answer.usage.completion == 5
    assert 0 < answer.first_token_seconds < 60


def test_provenance_names_the_bytes_that_answered(open_shop: Project) -> None:
    open_shop.ask("once", module="prices", max_tokens=1).text()
    answer = open_shop.ask("What?", module="prices", max_tokens=1)
    answer.text()
    live = open_shop.registry.live("prices")
    found = answer.prepared.provenance()
    assert {k: found[k] for k in ("module", "version", "digest", "stage", "tier", "confidence")} == {
        "module": "prices",
        "version": live.version,
        "digest": live.digest,
        "stage": "explicit",
        "tier": "warm",
        "confidence": 1.0,
    }
    assert found["restored_tokens"] == answer.usage.cached


def test_the_end_of_the_answer(open_shop: Project) -> None:
    (eos,) = open_shop.model.tokenizer.eos_ids
    answer = open_shop.ask("?", module="prices", max_tokens=9, logit_bias=((eos, 100.0),))
    assert answer.text() == ""
    assert (answer.finish_reason, answer.token_ids) == ("stop", [eos])
    assert len(tokens(open_shop, "?", logit_bias=((eos, 100.0),), ignore_eos=True)) == 12


def test_a_stop_string_ends_the_answer_before_it(open_shop: Project) -> None:
    whole = open_shop.ask("Why?", module="prices", max_tokens=40, ignore_eos=True).text()
    stop = whole[11:14]
    answer = open_shop.ask("Why?", module="prices", max_tokens=40, ignore_eos=True, stop=(stop, "never there"))
    assert answer.text() == whole[: whole.find(stop)]
    assert answer.finish_reason == "stop"


def test_a_seed_gives_the_same_answer_alone_and_in_company(open_shop: Project) -> None:
    def draw(seed: int) -> list[int]:
        return tokens(open_shop, "Why?", temperature=1.2, top_p=0.9, seed=seed)

    alone = draw(5)
    others = [open_shop.ask(q, module="shipping", max_tokens=20, temperature=1.0) for q in QUESTIONS]
    assert draw(5) == alone
    assert draw(6) != alone
    for other in others:
        other.text()


def test_the_repetition_penalty_covers_the_document(open_shop: Project) -> None:
    """Tokens of the chain are penalized too: with a large penalty the answer avoids all of them."""
    answer = open_shop.ask("Why?", module="prices", max_tokens=5, repetition_penalty=100.0, ignore_eos=True)
    answer.text()
    seen = {*answer.prepared.lease.token_ids, *answer.prepared.suffix_ids}
    assert not seen & set(answer.token_ids)
    assert len(set(answer.token_ids)) == 5


def test_a_prompt_goes_on_without_markers(open_shop: Project) -> None:
    answerer = open_shop.runtime.answerer
    answer = answerer.ask(Question(prompt=" A bolt<|im_end|>", module="prices", sampling=Sampling(max_tokens=1)), LOCAL)
    answer.text()
    assert answer.prepared.suffix_ids == open_shop.model.tokenizer.words(" A bolt<|im_end|>")
    assert not set(answer.prepared.suffix_ids) & {0, 1, 2}


REFUSED: list[tuple[str, dict[str, Any], type[QuireError]]] = [
    ("", {}, InvalidRequest),
    (" \n", {}, InvalidRequest),
    ("half a pair: \ud83d", {}, InvalidRequest),
    ("what?", {"module": None}, NoRoute),
    ("what?", {"module": "prizes"}, ModuleUnknown),
    ("what?", {"module": "prices@ffffffffffff"}, VersionUnknown),
    ("what?", {"temperature": -1.0}, InvalidRequest),
    ("what?", {"temperature": "hot"}, InvalidRequest),
    ("what?", {"stop": ""}, InvalidRequest),
    ("what?", {"max_tokens": 5000}, ContextExceeded),
    ("what? " * 2000, {}, ContextExceeded),
]


@pytest.mark.parametrize(("text", "options", "reason"), REFUSED, ids=[f"{t:.12}-{o}" for t, o, _ in REFUSED])
def test_a_refusal_is_named_and_leaves_nothing(
    open_shop: Project, text: str, options: dict[str, Any], reason: type[QuireError]
) -> None:
    with pytest.raises(reason) as refused:
        open_shop.ask(text, **({"module": "prices"} | options)).text()
    assert refused.value.hint
    assert open_shop.runtime.pool.state().leases == 0
    assert tokens(open_shop, "Why?"), "others are still answered"


def test_the_context_is_used_to_its_last_position(open_shop: Project) -> None:
    prepared = open_shop.runtime.answerer.prepare(Question((Turn("user", "Why?"),), module="prices"), LOCAL)
    room = 2048 - prepared.lease.segments[-1].position_end - len(prepared.suffix_ids)
    prepared.release()
    words = open_shop.model.tokenizer.words("Why? " * 900)[: room - 3]
    text = open_shop.model.tokenizer.decode(words)
    answer = open_shop.ask("Why?" + text, module="prices", ignore_eos=True)
    answer.text()
    assert answer.finish_reason == "length"
    assert answer.usage.prompt + answer.usage.completion == 2048


def test_what_is_prepared_is_run_once(open_shop: Project) -> None:
    answerer = open_shop.runtime.answerer
    question = Question((Turn("user", "Why?"),), module="prices", session="once", sampling=Sampling(max_tokens=2))
    prepared = answerer.prepare(question, LOCAL)
    prepared.release()
    prepared.release()
    with pytest.raises(InvalidRequest, match="run or released before"):
        answerer.start(prepared, lambda _: None)
    done = threading.Event()
    prepared = answerer.prepare(question, LOCAL)
    answerer.start(prepared, lambda item: done.set() if getattr(item, "finish_reason", None) else None)
    prepared.release()
    assert done.wait(30)
    assert open_shop.runtime.pool.state().leases == 0


def test_states_decide_who_may_answer(shop: Path) -> None:
    by = {"actor": "tester", "reason": "to see"}
    with open_project(shop) as project:
        old = project.registry.live("prices")
        (shop / "knowledge" / "prices.md").write_text("A bolt costs 9 pounds.")
        project.build()
        new = project.registry.live("prices")
        assert tokens(project, "Why?", str(old.ref)) != tokens(project, "Why?", str(new.ref))
        assert tokens(project, "Why?") == tokens(project, "Why?", f"prices@{new.version[:6]}")
        project.registry.revoke("prices", old.version, **by)
        with pytest.raises(NoLiveVersion, match="revoked"):
            project.ask("Why?", module=str(old.ref))
        project.registry.retire("prices", new.version, **by)
        with pytest.raises(NoLiveVersion):
            project.ask("Why?", module="prices")
        assert tokens(project, "Why?", str(new.ref)), "a retired version answers whoever names it"
        record = project.registry.get("shipping", project.registry.live("shipping").version)
        project.registry.revoke("company", project.registry.live("company").version, **by)
        with pytest.raises(NoLiveVersion):
            project.ask("Why?", module=str(record.ref))


def test_after_closing_nothing_is_answered(shop: Path) -> None:
    project = open_project(shop)
    runtime = project.runtime
    project.ask("Why?", module="prices", max_tokens=1).text()
    record = project.registry.live("prices")
    chain = project.registry.chain(record)
    prepared = runtime.answerer.prepare(Question((Turn("user", "Why?"),), module="prices"), LOCAL)
    project.close()
    with pytest.raises(EngineStopped):
        runtime.answerer.start(prepared, lambda _: None)
    assert runtime.pool.state().leases == 0
    project.close()
    with pytest.raises(QuireError):
        project.registry.chain(record)
    assert chain


def test_a_copied_project_answers_the_same(open_shop: Project, built_shop: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(built_shop, tmp_path / "elsewhere")
    with open_project(copied) as project:
        assert tokens(project, "Why?") == tokens(open_shop, "Why?")
