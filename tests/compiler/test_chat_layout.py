"""The layout made from a chat template gives the prompt that the template would have given."""

from __future__ import annotations

import copy

import pytest
from transformers import PreTrainedTokenizerFast

from quire.compiler import Layout, chat_layout
from quire.errors import LayoutMalformed
from quire.model import TextTokenizer

BLOCKS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] | trim + '<|im_end|>\n' }}{% endfor %}"
)
OPEN = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
TEMPLATES = {
    "plain": BLOCKS + OPEN,
    "opens with a token": "{{ bos_token }}" + BLOCKS + OPEN,
    "tells the date": "{{ bos_token }}Today: {{ strftime_now('%d %b %Y') }}\n" + BLOCKS + OPEN,
    "has braces": "{{ '{json}' }}" + BLOCKS.replace("\\n'", " {x}\\n'") + OPEN,
    "adds a default system message": (
        "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    )
    + BLOCKS
    + OPEN,
    "brackets instructions": (
        "{% if messages[0]['role'] == 'system' %}{% set s = messages[0]['content'] + '\n\n' %}"
        "{% set messages = messages[1:] %}{% else %}{% set s = '' %}{% endif %}{{ bos_token }}"
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + (s if loop.first else '') + m['content'] "
        "+ ' [/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    ),
}
WITHOUT_SYSTEM = {
    "refuses a system message": NO_SYSTEM + BLOCKS + OPEN,
    "moves the system message to the last question": (
        "{% if messages[0]['role'] == 'system' %}{% set s = messages[0]['content'] + '\n\n' %}"
        "{% set messages = messages[1:] %}{% else %}{% set s = '' %}{% endif %}"
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + (s if loop.last else '') + m['content'] "
        "+ ' [/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    ),
}
BROKEN = {
    "drops the first question": "{{ messages[0]['content'] }}{{ messages[-1]['content'] }}",
    "says things twice": BLOCKS + BLOCKS,
    "is no template": "{% for m in messages %}",
    "adds numbers to text": "{{ messages[0]['content'] + 1 }}",
    "divides by zero": "{{ 1 / 0 }}",
    "refuses everything": "{{ raise_exception('no') }}",
    "prints nothing": "{# nothing #}",
}


def tokenizer_with(tiny: PreTrainedTokenizerFast, template: str | None) -> TextTokenizer:
    library = copy.deepcopy(tiny)
    library.chat_template = template
    return TextTokenizer(library, frozenset({2}))


def prompt(layout: Layout, content: str, *turns: str) -> str:
    text = layout.root.format(content=content) + layout.first_user.format() + turns[0]
    for number, turn in enumerate(turns[1:]):
        text += (layout.assistant if number % 2 == 0 else layout.user).format() + turn
    return text + layout.answer.format()


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_the_prompt_is_that_of_the_template(tiny_tokenizer: PreTrainedTokenizerFast, template: str) -> None:
    tokenizer = tokenizer_with(tiny_tokenizer, template)
    layout = chat_layout(tokenizer)
    messages = [
        {"role": "system", "content": "FACTS"},
        {"role": "user", "content": "one?"},
        {"role": "assistant", "content": "two."},
        {"role": "user", "content": "three?"},
    ]
    assert prompt(layout, "FACTS", "one?", "two.", "three?") == tokenizer.render_chat(messages)
    assert prompt(layout, "FACTS", "one?") == tokenizer.render_chat(messages[:2])
    assert Layout.parse(layout.definition(), "again") == layout


@pytest.mark.parametrize("template", WITHOUT_SYSTEM.values(), ids=WITHOUT_SYSTEM)
def test_without_a_system_role_the_knowledge_opens_the_first_question(
    tiny_tokenizer: PreTrainedTokenizerFast, template: str
) -> None:
    tokenizer = tokenizer_with(tiny_tokenizer, template)
    messages = [
        {"role": "user", "content": "FACTS\n\none?"},
        {"role": "assistant", "content": "two."},
        {"role": "user", "content": "three?"},
    ]
    assert prompt(chat_layout(tokenizer), "FACTS", "one?", "two.", "three?") == tokenizer.render_chat(messages)


@pytest.mark.parametrize("template", BROKEN.values(), ids=BROKEN)
def test_a_template_that_cannot_be_cut_asks_for_a_layout_file(
    tiny_tokenizer: PreTrainedTokenizerFast, template: str
) -> None:
    with pytest.raises(LayoutMalformed) as refused:
        chat_layout(tokenizer_with(tiny_tokenizer, template))
    assert "layout.file" in refused.value.hint


def test_the_date_does_not_change_the_layout(
    tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizer_with(tiny_tokenizer, TEMPLATES["tells the date"])
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    assert "26 Jul 2024" in chat_layout(tokenizer).root


def test_a_model_without_a_template_gets_question_and_answer(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    layout = chat_layout(tokenizer_with(tiny_tokenizer, None))
    assert layout.id == "plain"
    assert layout.stop == ("\nQuestion:",)
    assert prompt(layout, "FACTS", "why?") == "FACTS\n\nQuestion: why?\nAnswer:"
