"""quire.toml and the environment are read once, checked at the door, and every refusal says where and what."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.core import RouteSpec, Scope
from quire.errors import InvalidSetting, ProjectNotFound, SettingsError, UnknownSetting
from quire.settings import BY_NAME, SETTINGS, TenantLimits, find_project, load_settings, parse_scope

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
    elif isinstance(setting.default, int | float) and setting.least is not None:
        first, second = type(setting.default)(setting.most), type(setting.default)(setting.least)
    if name in ADDRESSES:
        first, second = ADDRESSES[name][0][1], ADDRESSES[name][0][0]
    if isinstance(setting.default, tuple):
        first, second = ("a, b", "c"), ("d",)
    toml = json.dumps(first)
    text = f"[{section}]\n{key} = {toml}\n"
    assert load(file, text)[name] == first
    variable = "QUIRE_" + name.upper().replace(".", "_")
    written = json.dumps(second) if isinstance(second, tuple) else str(second)
    assert load(file, text, **{variable: written})[name] == second


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
    "[access]\nkeys = 1",
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
        ("QUIRE_ACCESS_KEYS", "yes"),
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
        ("dtype = 1\n", "model"),
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
    (MODULE + 'route = { patterns = ["("] }\n', "toml: '(': missing )"),
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
    assert spec.route == RouteSpec()


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


def test_limits_are_those_of_everybody_but_for_what_a_tenant_has_of_its_own(file: Path) -> None:
    text = """
[limits.default]
requests_per_minute = 300
tokens_per_minute = 60_000
[limits.tenants.acme]
requests_per_minute = 0
priority = "high"
"""
    found = load(file, text)
    assert found.limits_of("other") == TenantLimits(300, 60_000)
    assert found.limits_of("acme") == TenantLimits(0, 60_000, priority="high")
    assert [load(file, "").limits_of("x"), found.limits_of("x").weight] == [TenantLimits(), 4]


@pytest.mark.parametrize(
    "text",
    [
        "[limits]\ndefault = 3",
        "[limits]\nrequests_per_minute = 3",
        "[limits.defaults]\nrequests_per_minute = 3",
        "[limits.default]\nrequests = 3",
        "[limits.default]\nrequests_per_minute = -1",
        "[limits.default]\nrequests_per_minute = 1.5",
        "[limits.default]\nrequests_per_minute = true",
        "[limits.default]\ntokens_per_minute = 99999999999999999999",
        "[limits.default]\npriority = 'urgent'",
        "[limits.default]\npriority = ['high']",
        "[limits.tenants]\nacme = 3",
        "[limits.tenants.'Two Words']\nrequests_per_minute = 3",
        "[limits.tenants.acme]\nconcurrency = 3",
    ],
)
def test_limits_that_cannot_be_meant_are_refused(file: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"limits"):
        load(file, text)


ADDRESSES = {
    "registry.url": (
        [
            "",
            "registry.db",
            "sqlite:///x#.db",
            "postgresql://ann@server:p/w#?@[::1]:5432/quire",
            "postgresql:///q?host=/t",
        ],
        [
            "mysql://ann:s3cret@host/quire",
            "postgresql://ann:s3cret@host:none/quire",
            "sqlite:///x.db?key=s3cret",
            "://",
        ],
    ),
    "redis.url": (
        ["", "redis://:s3cret@host:6379/0", "rediss://host", "unix:///run/redis.sock?db=1"],
        [
            "host:6379",
            "http://ann:s3cret@host",
            "redis://:s3cret@host:none/0",
            "redis://:s3cret@host/two",
            "redis:///0",
        ],
    ),
    "redis.prefix": (["quire", "Acme:prod_1/x"], ["", "two words", "{quire}", ":x", "x" * 129]),
    "store.url": (
        ["", "s3://bucket/a/b", "gs://bucket", "file:///mnt/two words"],
        [
            "bucket",
            "s3://",
            "s3://key:s3cret@bucket",
            "s3://bucket?sig=s3cret",
            "ftp://host/x",
            "file:///",
            "s3://b:x/p",
        ],
    ),
    "store.endpoint": (
        ["", "http://minio:9000"],
        ["minio:9000", "http://two words", "s3://minio", "https://", "http://host:99999"],
    ),
    "tracing.endpoint": (
        ["", "https://collector/v1/traces"],
        ["localhost:4318", "grpc://localhost:4317", "file:///etc/passwd", "ftp://ann:s3cret@host/"],
    ),
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_a_wrong_address_is_found_at_the_start_by_its_name_and_never_told_with_a_secret(name: str) -> None:
    right, wrong = ADDRESSES[name]
    variable = "QUIRE_" + name.upper().replace(".", "_")
    for text in right:
        assert load_settings(None, {variable: text})[name] == text
    for text in wrong:
        with pytest.raises(InvalidSetting) as refused:
            load_settings(None, {variable: text})
        said = refused.value.message
        assert said.startswith(f"{name} in {variable} must be "), text
        assert ", found " in said
        assert "s3cret" not in said + refused.value.hint
        assert refused.value.hint == BY_NAME[name].help
