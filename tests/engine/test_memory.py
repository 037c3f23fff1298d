"""The room for suffixes fits what is free, and what cannot be had is refused by the name of its setting."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quire import open_project
from quire.engine import suffix_space
from quire.engine.memory import _group_bytes, _system_bytes, available_bytes, chosen_tokens
from quire.errors import ContextExceeded, InvalidSetting
from quire.model import LoadedModel
from quire.model.kv import GRAIN


@given(available=st.integers(0, 1 << 50), per_token=st.integers(1, 1 << 20), most=st.integers(GRAIN, 1 << 30))
def test_the_room_is_a_quarter_of_what_is_free_up_to_what_can_be_used(
    available: int, per_token: int, most: int
) -> None:
    tokens = chosen_tokens(available, per_token, most)
    assert GRAIN <= tokens <= most
    assert tokens == GRAIN or tokens * per_token <= available / 4
    assert tokens == most or (tokens + 1) * per_token > available / 4


def test_what_is_asked_for_is_given_in_whole_grains(tiny_model: LoadedModel) -> None:
    assert suffix_space(tiny_model, 1000, 4).capacity == 1024
    assert suffix_space(tiny_model, 0, 3).capacity == 3 * tiny_model.max_positions


def test_more_than_there_is_names_the_setting(tiny_model: LoadedModel) -> None:
    with pytest.raises(InvalidSetting, match=r"engine\.suffix_tokens is 9,007,199,254,740,991") as refused:
        suffix_space(tiny_model, 2**53 - 1, 1)
    assert refused.value.hint


def test_memory_is_what_the_system_and_the_container_leave(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:    4096 kB\n")
    assert _system_bytes(tmp_path / "meminfo") == 4 << 20
    assert _system_bytes(tmp_path / "none") > 0
    assert _group_bytes(tmp_path) > 1 << 60
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert _group_bytes(tmp_path) > 1 << 60
    (tmp_path / "memory.max").write_text("5000\n")
    assert _group_bytes(tmp_path) == 4000
    (tmp_path / "memory.max").write_text("500\n")
    assert _group_bytes(tmp_path) == 0
    assert 0 < available_bytes(torch.device("cpu")) < 1 << 60


def test_the_setting_is_the_room_of_the_project(built_shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIRE_ENGINE_SUFFIX_TOKENS", "100")
    with open_project(built_shop) as project:
        assert project.ask("Why?", module="prices", max_tokens=2, ignore_eos=True).text()
        assert project.runtime.scheduler.load().room_total == 128
        with pytest.raises(ContextExceeded, match="room for 128 tokens"):
            project.ask("Why? " * 100, module="prices")
