"""A running router follows the registry; golden questions are read strictly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from quire.access import EVERYTHING
from quire.errors import InvalidSetting, RouteTableInvalid
from quire.registry import Registry, RouteDraft
from quire.router import Hints, LiveRoutes, RouteTable, build_table
from quire.router.golden import confusion, read_golden, run_golden

from .making import described, router

WHO = {"actor": "ann", "reason": "a test"}


def put(registry: Registry, keyword: str) -> str:
    table = build_table([described(f"by-{keyword}", keywords=(keyword,))])
    registry.routes.put(table.draft, **WHO)
    return table.digest


def test_the_router_is_that_of_the_table_in_force_within_a_second(registry: Registry) -> None:
    now = [100.0]
    live = LiveRoutes(registry.routes, clock=lambda: now[0])

    def goes_to(question: str) -> str:
        return live.current().route(question, reach=EVERYTHING).module_id

    assert goes_to("refund") == ""
    first = put(registry, "refund")
    now[0] += 1
    assert goes_to("refund") == "by-refund"
    assert live.current().table.digest == first
    put(registry, "parcel")
    now[0] += 0.2
    assert goes_to("parcel") == "", "the registry is not asked for every question"
    now[0] += 0.1
    assert (goes_to("parcel"), goes_to("refund")) == ("by-parcel", "")
    registry.routes.rollback(**WHO)
    now[0] += 1
    assert goes_to("refund") == "by-refund"


def test_a_table_that_does_not_read_is_an_error_until_another_is_in_force(registry: Registry) -> None:
    now = [0.0]
    live = LiveRoutes(registry.routes, clock=lambda: now[0])
    registry.routes.put(RouteDraft("b3:" + "0" * 64, "{}", b""), **WHO)
    for _ in range(2):
        with pytest.raises(RouteTableInvalid):
            live.current()
    put(registry, "refund")
    assert live.current().route("refund", reach=EVERYTHING).module_id == "by-refund"


def test_a_table_of_before_with_patterns_that_are_refused_now_still_routes(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    """The pattern is left out, said in the log and in what was tried; whatever else the table has decides."""
    new = build_table([described("billing", keywords=("refund",)), described("vip", when=(("plan", ("gold",)),))])
    modules = [replace(m, route=replace(m.route, patterns=(r"order (?=\d)", "parcel"))) for m in new.modules]
    registry.routes.put(RouteTable(tuple(modules), new.stages, new.outside, new.weights).draft, **WHO)
    router = LiveRoutes(registry.routes).current()
    assert router.route("a refund", reach=EVERYTHING).module_id == "billing"
    assert router.route("a parcel", reach=EVERYTHING).module_id == "billing"
    plan = router.route("order 66", hints=Hints(metadata=(("plan", "gold"),)), reach=EVERYTHING)
    assert plan.stage != "rule", "a rule whose pattern is left out is no rule of conditions alone"
    told = r"a pattern of billing: 'order (?=\\d)': it looks ahead or behind: (?="
    assert any(told in passed for passed in plan.passed)
    assert any(told in each.__dict__["quire_fields"].values() for each in caplog.records)


GOLDEN = """
- {question: "a refund", module: billing}
- {question: "a refund", module: partners, metadata: {channel: partner}, stage: explicit}
- {question: "a parcel", module: billing}
- {question: "a refund", module: billing, stage: semantic}
- {question: "the moon", module: fallback}
- {question: "a refund", module: fallback}
"""


def test_golden_questions_pass_or_say_where_they_went(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(GOLDEN, encoding="utf-8")
    modules = [
        described("billing", keywords=("refund",)),
        described("shipping", keywords=("parcel",)),
        described("partners", metadata=(("channel", ("partner",)),)),
    ]
    routed = run_golden(router(modules, semantic=False), read_golden(tmp_path / "routes.yaml"))
    assert [one.passed for one in routed] == [True, True, False, False, True, False]
    assert [one.module for one in routed] == ["billing", "partners", "shipping", "billing", "fallback", "billing"]
    assert confusion(routed) == {
        "billing": {"billing": 2, "shipping": 1},
        "partners": {"partners": 1},
        "fallback": {"fallback": 1, "billing": 1},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no entries"),
        ("[]", "no entries"),
        ("question: x", "no entries"),
        ("- x", "entry 1 .* is no mapping, found 'x'"),
        ("- {question: x}", "module of entry 1 .* must be a text, found ''"),
        ("- {question: '', module: a}", "question of entry 1"),
        ("- {question: x, module: 3}", "module of entry 1 .* found 3"),
        (
            "- {question: x, module: a}\n- {question: x, module: a, stage: rules}",
            "stage of entry 2 .* is none: 'rules'",
        ),
        ("- {question: x, module: a, stage: [rule]}", "stage of entry 1"),
        ("- {question: x, module: a, metadata: [b]}", "metadata of entry 1"),
        ("- {question: x, module: a, metadata: {b: 1}}", "metadata of entry 1"),
        ("- {question: x, module: a, expected: b}", "unknown key 'expected'"),
        ("- [", "not valid YAML"),
        ("- !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_a_golden_file_of_another_form_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidSetting, match=said):
        read_golden(file)
    with pytest.raises(InvalidSetting, match="cannot read"):
        read_golden(tmp_path / "nothing.yaml")
