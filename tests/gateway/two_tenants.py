"""A project that two tenants share: modules of every scope, an issuer of tokens, and keys for everybody."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from issuing import AUDIENCE, ISSUER, ec_key, key_set, public, rsa_key

from quire import open_project
from quire.access import LOCAL, Keys

MODULES = {
    "company": ("public", "Norrvik Fasteners sells bolts and nuts to boat builders.", ["norrvik"]),
    "prices": ("tenant:acme", "Acme pays 3 pounds for a bolt.", ["bolt"]),
    "contracts": ("workspace:acme/legal", "The contract with Norrvik ends in May.", ["contract"]),
    "notes": ("user:acme/ann", "Ann likes brass nuts.", ["nuts"]),
    "plans": ("tenant:globex", "Globex plans to buy Norrvik in spring.", ["bolt", "plan"]),
    "salaries": ("workspace:globex/board", "The board earns 9 pounds.", ["salary"]),
}
EXAMPLES = {
    "company": ["Who is Norrvik?", "What does the firm sell?", "Whom do they sell to?"],
    "prices": ["How much are fasteners?", "What do we pay?", "Is it dear?"],
    "plans": ["How much do we bid?", "When is the takeover?", "What do we pay for the firm?"],
    "salaries": ["How much are the directors paid?", "What do we pay the board?"],
}
HIDDEN_FROM_BOB = ("contracts", "notes", "plans", "salaries")  # a reader of acme, in no workspace
SETTINGS = {
    "access.keys": True,
    "access.issuer": ISSUER,
    "access.audience": AUDIENCE,
    "access.jwks": "issuer.json",
}


@dataclass(frozen=True, slots=True)
class TwoTenants:
    """Where it lies, and a key for each name."""

    root: Path
    keys: dict[str, str]


def write_project(root: Path, model: Path, *, without: tuple[str, ...] = ()) -> None:
    """quire.toml and the sources, but for some modules; and the issuer's keys."""
    lines = ["[model]", f'path = "{model}"', "threads = 1"]
    for name, (acl, text, keywords) in MODULES.items():
        if name in without:
            continue
        (root / f"{name}.md").write_text(text + "\n", encoding="utf-8")
        lines += [f"[modules.{name}]", f'sources = ["{name}.md"]', f'acl = "{acl}"']
        lines += ['parent = "company"'] if name != "company" else []
        lines += [f"route = {{ keywords = {keywords!r}, examples = {EXAMPLES.get(name, [])!r} }}"]
    (root / "quire.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / "issuer.json").write_bytes(key_set(public(rsa_key(), "k1"), public(ec_key(), "k2")))


def build(root: Path, model: Path, *, without: tuple[str, ...] = ()) -> TwoTenants:
    """Build it, and make the keys."""
    root.mkdir()
    write_project(root, model, without=without)
    with open_project(root) as project:
        project.build()
        keys = make_keys(project.access.keys)
    return TwoTenants(root, keys)


def make_keys(keys: Keys) -> dict[str, str]:
    def make(title: str, tenant: str, role: str, **more: object) -> str:
        return keys.create(LOCAL, title, tenant=tenant, roles=[role], **more)[1]  # type: ignore[arg-type]

    return {
        "ann": make("ann", "acme", "reader", user="ann", workspaces=["legal"]),
        "bob": make("bob", "acme", "reader", user="bob"),
        "eve": make("eve", "acme", "admin", user="eve"),
        "publisher": make("publisher", "acme", "publisher"),
        "auditor": make("auditor", "acme", "auditor"),
        "globex": make("globex", "globex", "reader", user="gil", workspaces=["board"]),
        "globex admin": make("globex admin", "globex", "admin"),
        "monitor": make("monitor", "ops", "monitor"),
        "operator": make("operator", "ops", "operator"),
    }
