"""Every family of causal models in transformers is exact or refused by a feature, and docs/models.md says which."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from . import sweep
from .running import our_kernels

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
IN_THE_PLAIN_SUITE = [family for family in sweep.TROUBLESOME if family != "qwen3_next"]  # which takes seconds

pytestmark = pytest.mark.filterwarnings("ignore")  # of the code of other families


def rows() -> list[str]:
    return [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("family", IN_THE_PLAIN_SUITE)
def test_a_family_that_gave_trouble_is_what_its_page_says(family: str, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    our_kernels()
    assert sweep.examine(family, tiny_tokenizer).row() in rows()


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_every_family_is_exact_or_refused_by_a_feature(
    chaos_count: int | None, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """All that fail are told at once. What they raise fails the test: a user would see it."""
    our_kernels()
    page, wrong = rows(), []
    for family in sweep.chosen(chaos_count):
        try:
            row = sweep.examine(family, tiny_tokenizer).row()
        except Exception as error:
            wrong.append(f"{family}: {error!r}")
        else:
            wrong += [] if row in page else [f"{family}: docs/models.md does not say {row}"]
    assert not wrong, "\n".join(wrong)
    assert chaos_count is not None or len(page) == len(sweep.FAMILIES)
