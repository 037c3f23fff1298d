"""quire.toml and the environment are read once, checked at the door, and every refusal says where and what."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.core import Scope
from quire.errors import InvalidSetting, ProjectNotFound, SettingsError, UnknownSetting
from quire.settings import BY_NAME, SETTINGS, find_project, load_settings, parse_scope

MODULE = '[modules.prices]\nsources = ["a.md"]\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "quire.toml"


def load(file: Path, text: str, **environ: str) -> Any:
    file.write_text(text, encoding="utf-8")
    return load_settings(file, environ)


def test_every_setting_has_a_default_of_its_own_type_within_its_bounds() -> None:
    values = load_settings(None, {})
    for setting in SETTINGS:
        assert values[setting.name] == setting.default
        assert setting.help
        if setting.choices:
            assert setting.default in setting.choices
        if setting.least is not None:
            assert isinstance(setting.default, int | float)
            assert setting.least <= setting.default <= setting.most


@pytest.mark.parametrize("name", list(BY_NAME))
def test_a_setting_comes_from_the_file_and_the_environment_wins(file: Path, name: str) -> None:
    setting = BY_NAME[name]
    section, key = name.split(".")
    first: Any = setting.choices[-1] if setting.choices else "acme"
    second: Any = setting.choices[0] if setting.choices else "other"
    if isinstance(setting.default, bool):
        first, second = True, False
    elif setting.least is not None:
        first, second = type(setting.default)(setting.most), type(setting.default)(setting.least)
    toml = f'"{first}"' if isinstance(first, str) else str(first).lower()
    text = f"[{section}]\n{key} = {toml}\n"
    assert load(file, text)[name] == first
    variable = "QUIRE_" + name.upper().replace(".", "_")
    assert load(file, text, **{variable: str(second)})[name] == second


WRONG = [
    "[model]\nthreads = -1",
    "[model]\nthreads = 100000",
    "[model]\nthreads = true",
    "[model]\nthreads = '2'",
    "[model]\nthreads = 1.5",
    "[model]\ndtype = 'int8'",
    "[model]\npath = 3",
    '[layout]\nfile = "a\\u0000b"',
    '[store]\npath = "a\\nb"',
    "[build]\nprefill_chunk = 15",
    "[build]\nprefill_chunk = 99999999999999999999",
    "[server]\nport = 65536",
    "[server]\ndrain_seconds = nan",
    "[server]\ndrain_seconds = inf",
    "[server]\ndrain_seconds = -1",
    "[server]\nallow_unauthenticated = 1",
    "[project]\nname = 'Two Words'",
    "[project]\ntenant = ''",
]


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_value_is_refused_by_name(file: Path, text: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        load(file, text)
    section, key = text.splitlines()[0].strip("[]"), text.splitlines()[1].split(" ")[0]
    assert f"{section}.{key}" in str(refused.value)
    assert "quire.toml" in str(refused.value)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("QUIRE_MODEL_THREADS", "many"),
        ("QUIRE_MODEL_THREADS", ""),
        ("QUIRE_SERVER_DRAIN_SECONDS", "nan"),
        ("QUIRE_SERVER_ALLOW_UNAUTHENTICATED", "yes"),
        ("QUIRE_MODEL_DTYPE", "FLOAT32"),
        ("QUIRE_LAYOUT_FILE", "a\tb"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=variable):
        load_settings(None, {variable: value})


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[servr]\n", "'server'"),
        ("[model]\nthread = 1\n", "'model.threads'"),
        (MODULE + 'suorces = ["b.md"]\n', "'sources'"),
        (MODULE + "route = { keyword = [] }\n", "'keywords'"),
        ("threads = 1\n", "model"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(file: Path, text: str, hint: str) -> None:
    with pytest.raises(UnknownSetting) as unknown:
        load(file, text)
    assert hint in unknown.value.hint
    with pytest.raises(UnknownSetting, match="QUIRE_MODEL_THREAD"):
        load_settings(None, {"QUIRE_MODEL_THREAD": "1"})


MODULES = [
    ('[modules."Two Words"]\nsources = ["a.md"]\n', "Two Words"),
    ("[modules.prices]\n", "no sources"),
    ("[modules.prices]\nsources = []\n", "no sources"),
    ('[modules.prices]\nsources = "a.md"\n', "list of non-empty strings"),
    ('[modules.prices]\nsources = ["a.md", ""]\n', "list of non-empty strings"),
    ('[modules.prices]\nsources = ["a\\u0000.md"]\n', "list of non-empty strings"),
    ("[modules]\nprices = 3\n", "must be a table"),
    (MODULE + "parent = 3\n", "parent"),
    (MODULE + "title = 3\n", "title"),
    (MODULE + 'title = "two\\nlines"\n', "title"),
    (MODULE + f'title = "{"x" * 513}"\n', "title"),
    (MODULE + 'acl = "everyone"\n', "acl 'everyone'"),
    (MODULE + 'route = { patterns = ["("] }\n', "pattern '('"),
    (MODULE + 'route = { patterns = ["a{4294967296}"] }\n', "pattern"),
    (MODULE + f'route = {{ patterns = ["{"(" * 5000}"] }}\n', "pattern"),
    (MODULE + 'route = { priority = "high" }\n', "priority"),
    (MODULE + "route = { priority = true }\n", "priority"),
    (MODULE + 'route = "always"\n', "must be a table"),
]


@pytest.mark.parametrize(("text", "said"), MODULES, ids=range(len(MODULES)))
def test_a_wrong_module_is_refused(file: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        load(file, text)
    assert said in str(refused.value)


def test_a_module_has_sensible_defaults(file: Path) -> None:
    (spec,) = load(file, '[project]\ntenant = "acme"\n' + MODULE).modules
    assert (spec.module_id, spec.title, spec.sources) == ("prices", "prices", ("a.md",))
    assert (spec.parent, spec.tenant, spec.scope) == (None, "acme", Scope("tenant", "acme"))
    assert (spec.keywords, spec.patterns, spec.priority) == ((), (), 0)


@pytest.mark.parametrize("data", [b"[model", b"\xff\xfe\x00", b"a = [" * 3000, b"[model]\n[model]\n", b"\x00"])
def test_a_file_that_is_not_toml_is_refused(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    with pytest.raises(InvalidSetting, match="not valid TOML"):
        load_settings(file, {})


@settings(max_examples=200, deadline=None)
@given(
    values=st.dictionaries(
        st.sampled_from([*BY_NAME, "modules.x.sources", "modules.x.route", "model", "x"]),
        st.integers() | st.floats() | st.booleans() | st.text(max_size=8) | st.lists(st.text(max_size=3), max_size=2),
        max_size=4,
    )
)
def test_any_toml_is_settings_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    lines = [f"{name} = {toml(value)}" for name, value in values.items()]
    file = tmp_path_factory.mktemp("any") / "quire.toml"
    with suppress(SettingsError):  # any other error fails the test
        load(file, "\n".join(lines))


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08X}" for c in value if not 0xD800 <= ord(c) < 0xE000) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    return str(value)


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("public", Scope("public")),
        ("tenant:acme", Scope("tenant", "acme")),
        ("workspace:acme/billing", Scope("workspace", "acme/billing")),
        ("user:acme/ann", Scope("user", "acme/ann")),
    ],
)
def test_scopes(text: str, scope: Scope) -> None:
    assert parse_scope(text, "here") == scope
    assert str(scope) == text


@pytest.mark.parametrize(
    "text",
    ["", "tenant", "tenant:", "tenant:a/b", "public:a", "user:a", "workspace:a/b/c", "tenant:A", "team:a", "user:a/"],
)
def test_what_is_no_scope(text: str) -> None:
    with pytest.raises(InvalidSetting, match="acl"):
        parse_scope(text, "here")


def test_a_project_is_found_from_below(tmp_path: Path, file: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    with pytest.raises(ProjectNotFound) as missing:
        find_project(deep)
    assert "quire init" in missing.value.hint
    file.write_text("")
    assert find_project(deep) == file
    (deep / "quire.toml").mkdir()
    assert find_project(deep) == file


def test_paths_start_at_the_project(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    found = load(file, '[model]\npath = "models"\n[store]\npath = "state"\n')
    assert found.model_name == str(tmp_path / "models")
    assert found.state == tmp_path / "state"
    assert load(file, '[model]\npath = "owner/name"\n').model_name == "owner/name"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert load(file, "").model_home == tmp_path / "data" / "quire" / "models"
    assert load(file, "[model]\nhome = '~/m'\n").model_home == Path.home() / "m"
