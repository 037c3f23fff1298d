"""Regular expressions and texts at random, of what `re` and Quire both know."""

from __future__ import annotations

import re

from hypothesis import strategies as st

# Letters with one, two and more cases, digits and white space of several scripts, marks, symbols.
CHARACTERS = "abkiß sıİKſSµμ.-_é1\n٣ЖжςΣ€\u0301中\U0001f600\u2003A"
TEXTS = st.text(CHARACTERS + "\ud800", max_size=30)  # half of a pair, as JSON can hold it
ATOMS = (
    *"abkiszµé1 AЖжς€中",
    *(rf"\{letter}" for letter in "dDwWsSbAZ.-"),
    *("^", "$", ".", "(?s:.)", "(?m:^)", "(?m:$)", "{", "{a}", "(?#none)a"),
    *("[ab]", "[^k]", "[A-Z]", "[а-я]", "[^а-яa-f]", r"[^\W\d_]", r"[\D]", r"[\W_]", "[]a]", "[^]é]", "[a-]", "[--a]"),
    *(r"[\s-]", r"[^\S\n]", "[À-ÿ]", "[İ]", "[ſ-ɏ]", "[\x00-\U0010ffff]", "[^\x00-\x7f]"),
    *(r"\x41", r"\u0436", r"\U0001f600", r"\N{EURO SIGN}", r"\n", r"[\n\x41]", r"\061", r"\0", r"[\61]"),
)
REPETITIONS = ("?", "*", "+", "{2}", "{1,3}", "+?", "??", "{0,2}", "{,2}", "{1,}?", "{,}")


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    repeated = st.tuples(inner, st.sampled_from(REPETITIONS)).map(lambda pair: f"(?:{pair[0]}){pair[1]}")
    row = st.lists(inner, min_size=1, max_size=4).map("".join)
    alternatives = st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})")
    return row | alternatives | repeated | inner.map(lambda text: f"({text})")


def _is_one(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


EXPRESSIONS = st.recursive(st.sampled_from(ATOMS), _grown, max_leaves=8).filter(_is_one)
